"""The process that trains: warm, watched, replaced when it dies, and gone when the server goes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from recall_server.jobs import local
from recall_server.jobs.local import LocalBackend
from recall_server.jobs.records import ClassifierRecord, JobError, JobStatus
from recall_server.jobs.training_jobs import TrainingJobs
from tests.recall_server.job_examples import DIVERGING, ENDLESS, eventually, jobs_with, record, training_task
from tests.recall_server.serving_examples import RETRAINING

Start = Callable[..., tuple[TrainingJobs, LocalBackend]]


def is_alive(process: int | None) -> bool:
    try:
        os.kill(process or 0, 0)
    except ProcessLookupError:
        return False
    return True


def finished(jobs: TrainingJobs, identifier: str) -> ClassifierRecord:
    eventually(lambda: jobs.get(identifier).status.is_terminal, "the job has ended")
    return jobs.get(identifier)


def under_way(jobs: TrainingJobs, identifier: str) -> None:
    eventually(lambda: jobs.get(identifier).progress is not None, "training is under way")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingJobs]:
    """Jobs on a warm process, for the tests that leave it warm."""
    backend = LocalBackend(device="cpu", threads=1)
    jobs = jobs_with(backend, tmp_path_factory.mktemp("state"))
    eventually(lambda: jobs.backend_state == "ready", "the process is warm")
    process = backend.process_id
    yield jobs
    assert backend.process_id == process, "the process did not stay the same"
    jobs.stop()
    assert not is_alive(process)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start jobs on a process of the test's own."""
    started: list[TrainingJobs] = []

    def start(**options: float) -> tuple[TrainingJobs, LocalBackend]:
        backend = LocalBackend(device="cpu", threads=1, **options)
        jobs = jobs_with(backend, tmp_path)
        started.append(jobs)
        return jobs, backend

    yield start
    for jobs in started:
        jobs.stop()


def test_the_same_task_gives_the_same_file(warm: TrainingJobs) -> None:
    first, again = (finished(warm, warm.submit(record(name), training_task()).id) for name in ("first", "again"))
    assert first.status is JobStatus.SUCCEEDED, first.error
    assert first.seconds is not None
    assert first.progress is not None
    assert first.progress.done == first.progress.total == RETRAINING.steps
    assert warm.device == "cpu"
    assert again.file == first.file
    assert warm.read("again") == warm.read("first")


def test_a_training_that_fails_leaves_the_process_warm(warm: TrainingJobs) -> None:
    failed = finished(warm, warm.submit(record("diverging"), training_task(targets=DIVERGING)).id)
    assert failed.error is not None
    assert failed.error.kind == "TrainingFailed"
    assert warm.backend_state == "ready"


def test_what_nobody_foresaw_is_logged_here_not_told_to_the_caller_and_costs_the_process(
    capfd: pytest.CaptureFixture[str], start: Start
) -> None:
    jobs, backend = start()
    eventually(lambda: jobs.backend_state == "ready", "the process is warm")
    process = backend.process_id
    failed = finished(jobs, jobs.submit(record("broken"), training_task(targets=torch.eye(2))).id)
    assert failed.error == JobError(
        kind="TrainingFailed", detail="training failed unexpectedly; the server's log says more"
    )
    assert finished(jobs, jobs.submit(record("next"), training_task()).id).status is JobStatus.SUCCEEDED
    assert backend.process_id != process
    assert "targets must be" in capfd.readouterr().err


def test_cancelling_a_queued_job_does_not_disturb_the_running_one(warm: TrainingJobs) -> None:
    running = warm.submit(record("running"), training_task(steps=300))
    queued = warm.submit(record("queued"), training_task())
    assert warm.cancel(queued.id).status is JobStatus.CANCELLED
    assert finished(warm, running.id).status is JobStatus.SUCCEEDED
    assert warm.get(queued.id).started_at is None


def test_a_running_job_is_stopped_at_once_and_the_next_is_trained(start: Start, tmp_path: Path) -> None:
    jobs, backend = start()
    endless = jobs.submit(record("endless"), training_task(steps=ENDLESS)).id
    under_way(jobs, endless)
    process = backend.process_id
    assert jobs.cancel(endless).status is JobStatus.CANCELLED
    eventually(lambda: not is_alive(process), "the process is gone")
    assert finished(jobs, jobs.submit(record("after"), training_task()).id).status is JobStatus.SUCCEEDED
    assert jobs.get(endless).status is JobStatus.CANCELLED
    assert {path.stem for path in (tmp_path / "classifiers").iterdir()} == {"after"}


def test_a_process_that_is_killed_fails_its_job_and_is_replaced(start: Start) -> None:
    jobs, backend = start()
    doomed = jobs.submit(record("doomed"), training_task(steps=ENDLESS)).id
    waiting = jobs.submit(record("waiting"), training_task()).id
    under_way(jobs, doomed)
    os.kill(backend.process_id or 0, signal.SIGKILL)
    assert finished(jobs, doomed).error == JobError(
        kind="TrainingFailed", detail="the training process ended (exit code -9)"
    )
    assert finished(jobs, waiting).status is JobStatus.SUCCEEDED
    idle = backend.process_id
    os.kill(idle or 0, signal.SIGKILL)
    eventually(lambda: jobs.backend_state == "restarting", "the loss of an idle process is noticed")
    eventually(lambda: jobs.backend_state == "ready", "it is replaced")
    assert backend.process_id != idle


def test_training_that_takes_too_long_is_stopped(start: Start) -> None:
    jobs, _ = start(training_seconds=0.3)
    failed = finished(jobs, jobs.submit(record("slow"), training_task(steps=ENDLESS)).id)
    assert failed.error == JobError(kind="TrainingFailed", detail="training took longer than 0.3 seconds")


def test_stopping_leaves_no_process_and_no_job_that_waits_for_ever(start: Start) -> None:
    jobs, backend = start()
    running = jobs.submit(record("running"), training_task(steps=ENDLESS)).id
    queued = jobs.submit(record("queued"), training_task()).id
    under_way(jobs, running)
    process = backend.process_id
    began = time.monotonic()
    jobs.stop()
    assert time.monotonic() - began < 5
    assert not is_alive(process)
    for identifier in (running, queued):
        assert jobs.get(identifier).error == JobError(
            kind="TrainingFailed", detail="the server stopped before this was trained"
        )


def test_the_threads_of_the_process_sleep_while_they_wait(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    jobs, backend = start()
    eventually(lambda: jobs.backend_state == "ready", "the process is warm")
    environment = Path(f"/proc/{backend.process_id}/environ")
    if environment.exists():
        assert b"OMP_WAIT_POLICY=PASSIVE" in environment.read_bytes()
    assert "OMP_WAIT_POLICY" not in os.environ


def die(*_: object) -> None:
    """A worker that does not get as far as being ready."""
    os._exit(7)


def test_a_process_that_never_starts_fails_what_waits_for_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "run_worker", die)
    monkeypatch.setattr(local, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(local, "FAILED_STARTS", 2)
    jobs, _ = start()
    failed = finished(jobs, jobs.submit(record(), training_task()).id)
    assert failed.error is not None
    assert failed.error.detail == "the training process cannot be started; the server's log says more"
    assert jobs.backend_state == "failed"


def test_a_process_that_cannot_even_be_created_is_the_same(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more_processes(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr("multiprocessing.context.SpawnProcess._Popen", no_more_processes)
    monkeypatch.setattr(local, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(local, "FAILED_STARTS", 2)
    jobs, _ = start()
    assert finished(jobs, jobs.submit(record(), training_task()).id).status is JobStatus.FAILED
    monkeypatch.undo()
    eventually(lambda: jobs.backend_state == "ready", "it recovers once processes can be created again")


def test_a_job_that_was_forgotten_behind_its_back_does_not_disturb_the_next(start: Start) -> None:
    jobs, _ = start()
    forgotten = jobs.submit(record("forgotten"), training_task()).id
    jobs._store.remove(forgotten)
    assert finished(jobs, jobs.submit(record("next"), training_task()).id).status is JobStatus.SUCCEEDED
