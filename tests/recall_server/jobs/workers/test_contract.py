"""What holds for every backend: processes of this machine, and actors on the nodes of a Ray cluster."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from recall_server.errors import NotReady
from recall_server.jobs.rows.records import JobError, JobStatus
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.jobs.workers.backend import Backend
from recall_server.jobs.workers.local import LocalBackend
from recall_server.jobs.workers.ray.backend import RayBackend, RayCluster
from tests.recall_server.job_examples import DIVERGING, ENDLESS, record, training_task
from tests.recall_server.serving_examples import RETRAINING
from tests.recall_server.watched_jobs import (
    Start,
    finished,
    is_alive,
    kill_in_attempt,
    process_of,
    ready,
    starting,
    under_way,
)
from tests.suite.waiting import eventually

pytestmark = pytest.mark.process

Backends = Callable[[int], Backend]


@pytest.fixture(scope="module", params=["local", "ray"])
def backends(request: pytest.FixtureRequest) -> Backends:
    """Make a backend of this many workers, with one thread each."""
    if request.param == "local":
        return lambda workers: LocalBackend(device="cpu", threads=1, workers=workers)
    cluster = RayCluster(request.getfixturevalue("ray_cluster").address)
    return lambda workers: RayBackend(cluster, workers=workers)


@pytest.fixture(scope="module")
def jobs(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingJobs]:
    """Jobs on one worker, for the tests that need no limits of their own."""
    with starting(backends, tmp_path_factory.mktemp("state")) as start:
        yield start()


@pytest.fixture
def start(backends: Backends, tmp_path: Path) -> Iterator[Start]:
    with starting(backends, tmp_path) as start:
        yield start


def test_a_task_is_trained_to_its_last_step(jobs: TrainingJobs) -> None:
    first = finished(jobs, jobs.submit(record("first"), training_task()).record.id)
    assert first.status is JobStatus.SUCCEEDED, first.error
    assert first.seconds is not None
    assert first.progress is not None
    assert first.progress.done == first.progress.total == RETRAINING.steps
    assert jobs.device == "cpu"
    assert [(worker.state, worker.device) for worker in jobs.workers] == [("ready", "cpu")]
    assert first.file is not None
    assert len(jobs.read("first")) == first.file.bytes


def test_a_training_that_fails_leaves_the_process_warm(jobs: TrainingJobs) -> None:
    failed = finished(jobs, jobs.submit(record("diverging"), training_task(targets=DIVERGING)).record.id)
    assert failed.error is not None
    assert failed.error.kind == "TrainingFailed"
    assert jobs.backend_state == "ready"


def test_an_unexpected_error_is_logged_hidden_from_the_caller_and_ends_the_process(
    caplog: pytest.LogCaptureFixture, jobs: TrainingJobs
) -> None:
    ready(jobs)
    process = process_of(jobs)
    failed = finished(jobs, jobs.submit(record("broken"), training_task(targets=torch.eye(2))).record.id)
    assert failed.error == JobError(
        kind="TrainingFailed", detail="training failed unexpectedly; the server's log says more"
    )
    assert (
        finished(jobs, jobs.submit(record("repaired"), training_task(seed=11)).record.id).status is JobStatus.SUCCEEDED
    )
    assert process_of(jobs) != process
    assert "targets must be" in caplog.text


def test_cancelling_a_queued_job_does_not_disturb_the_running_one(jobs: TrainingJobs) -> None:
    running = jobs.submit(record("running"), training_task(steps=300)).record
    queued = jobs.submit(record("queued"), training_task(seed=8)).record
    assert jobs.cancel(queued.id).status is JobStatus.CANCELLED
    assert finished(jobs, running.id).status is JobStatus.SUCCEEDED
    assert jobs.get(queued.id).started_at is None


def test_a_running_job_is_stopped_at_once_and_the_next_is_trained(jobs: TrainingJobs) -> None:
    endless = jobs.submit(record("endless"), training_task(steps=ENDLESS)).record.id
    under_way(jobs, endless)
    process = process_of(jobs)
    assert jobs.cancel(endless).status is JobStatus.CANCELLED
    eventually(lambda: not is_alive(process), "the process is gone")
    assert finished(jobs, jobs.submit(record("after"), training_task(seed=12)).record.id).status is JobStatus.SUCCEEDED
    assert jobs.get(endless).status is JobStatus.CANCELLED
    with pytest.raises(NotReady):
        jobs.read(endless)


def test_the_job_of_a_killed_process_is_retried_and_then_fails(jobs: TrainingJobs) -> None:
    doomed = jobs.submit(record("doomed"), training_task(steps=ENDLESS, seed=15)).record.id
    waiting = jobs.submit(record("waiting"), training_task(seed=13)).record.id
    kill_in_attempt(jobs, doomed, 1)
    kill_in_attempt(jobs, doomed, 2)
    assert finished(jobs, doomed).error == JobError(
        kind="WorkerLost", detail="attempt 2 of 2 was lost: the training process ended (exit code -9)"
    )
    assert finished(jobs, waiting).status is JobStatus.SUCCEEDED


def test_an_idle_process_that_is_killed_is_replaced_and_any_process_makes_the_same_file(jobs: TrainingJobs) -> None:
    ready(jobs)
    idle = process_of(jobs)
    os.kill(idle, signal.SIGKILL)
    eventually(lambda: jobs.backend_state == "restarting", "the loss of an idle process is noticed")
    ready(jobs)
    assert process_of(jobs) != idle
    done = finished(jobs, jobs.submit(record("same"), training_task(seed=14)).record.id)
    assert jobs.read(done.id) == training_task(seed=14).train(device="cpu")


def test_training_that_takes_too_long_is_stopped(start: Start) -> None:
    jobs = start(training_seconds=0.3)
    failed = finished(jobs, jobs.submit(record("slow"), training_task(steps=ENDLESS)).record.id)
    assert failed.error == JobError(kind="TrainingFailed", detail="training took longer than 0.3 seconds")


def test_stopping_leaves_no_process_and_loses_no_job(start: Start) -> None:
    jobs = start()
    running = jobs.submit(record("running"), training_task(steps=ENDLESS)).record.id
    queued = jobs.submit(record("queued"), training_task()).record.id
    under_way(jobs, running)
    process = process_of(jobs)
    began = time.monotonic()
    jobs.stop()
    assert time.monotonic() - began < 5
    assert not is_alive(process)
    assert [jobs.get(each).status for each in (running, queued)] == [JobStatus.QUEUED] * 2
    assert jobs.get(running).started_at is None
