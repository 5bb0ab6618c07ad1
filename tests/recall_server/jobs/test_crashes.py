"""Real servers, killed with -9 while they train. `python -m benchmarks.crashes` does it a hundred times, over HTTP."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.process_tree import LISTED, descendants, is_running
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.jobs.rows.records import JobStatus
from recall_server.jobs.training_jobs import TrainingJobs
from tests.recall_server.job_examples import jobs_with, record, training_task
from tests.recall_server.serving_examples import ManualBackend
from tests.suite.waiting import PATIENCE, eventually

pytestmark = pytest.mark.process

LONG = 800  # steps: a moment longer than it takes to kill somebody


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that trains on the state folder of the test."""
    command = [sys.executable, "-m", "tests.recall_server.job_server", str(tmp_path), "1.0"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    yield process
    process.kill()
    process.wait(PATIENCE)


@pytest.fixture
def backend() -> ManualBackend:
    return ManualBackend()


@pytest.fixture
def jobs(backend: ManualBackend, tmp_path: Path) -> TrainingJobs:
    """The server that survives, on the same table."""
    return jobs_with(backend, tmp_path, lease_seconds=1.0)


def under_way(jobs: TrainingJobs, identifier: str) -> None:
    eventually(lambda: jobs.get(identifier).progress is not None, "training is under way")


def test_another_server_trains_the_jobs_of_a_killed_one_exactly_once(
    doomed: subprocess.Popen[bytes], backend: ManualBackend, jobs: TrainingJobs, tmp_path: Path
) -> None:
    running = jobs.submit(record("running"), training_task(steps=LONG)).record.id
    queued = jobs.submit(record("queued"), training_task()).record.id
    under_way(jobs, running)
    left = descendants(doomed.pid)
    assert left or not LISTED
    doomed.kill()
    doomed.wait(PATIENCE)
    eventually(lambda: not any(is_running(process) for process in left), "its processes have gone too")
    eventually(lambda: jobs.get(running).status is JobStatus.QUEUED, "its job is taken over")
    backend.perform()
    backend.perform()
    for identifier, attempt in ((running, 2), (queued, 1)):
        done = jobs.get(identifier)
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, attempt)
        assert FreshClassifier.load(jobs.finished_file(identifier)).labels == done.labels
        ends = [event for event in jobs.events(identifier) if event.status.is_terminal]
        assert len(ends) == 1
    jobs._maintenance.clean()
    assert {path.name for path in (tmp_path / "classifiers").iterdir()} == {
        "running.2.safetensors",
        "queued.safetensors",
    }
    assert list((tmp_path / "tasks").iterdir()) == []


def freeze_between_writes(process: subprocess.Popen[bytes], state: Path) -> None:
    """In the middle of a write it would keep SQLite's lock, and nobody could take over anything until it thaws."""
    while True:
        process.send_signal(signal.SIGSTOP)
        with contextlib.closing(sqlite3.connect(state / "jobs.sqlite", timeout=1.0, isolation_level=None)) as table:
            try:
                table.execute("BEGIN IMMEDIATE")
                return table.execute("ROLLBACK").close()
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
        time.sleep(0.02)


def test_a_server_that_wakes_up_does_not_disturb_its_successor(
    doomed: subprocess.Popen[bytes], backend: ManualBackend, jobs: TrainingJobs, tmp_path: Path
) -> None:
    identifier = jobs.submit(record("x"), training_task(steps=LONG)).record.id
    under_way(jobs, identifier)
    freeze_between_writes(doomed, tmp_path)
    eventually(lambda: jobs.get(identifier).status is JobStatus.QUEUED, "its job is taken over")
    assignment = backend.begin()
    doomed.send_signal(signal.SIGCONT)
    eventually(lambda: "taken for dead" in (tmp_path / "log").read_text(), "it has noticed")
    time.sleep(0.5)
    taken = jobs.get(identifier)
    assert (taken.status, taken.attempt) == (JobStatus.RUNNING, 2)
    backend.perform(assignment)
    assert jobs.get(identifier).status is JobStatus.SUCCEEDED
    jobs._maintenance.clean()
    assert {path.name for path in (tmp_path / "classifiers").iterdir()} == {"x.2.safetensors"}
    assert doomed.poll() is None, "it goes on"
