"""What tests of workers wait for, and how they kill one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recall_server.jobs.rows.records import ClassifierRecord
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.jobs.workers.backend import Backend
from tests.recall_server.job_examples import jobs_with
from tests.suite.waiting import PATIENCE, eventually

Start = Callable[..., TrainingJobs]


def is_alive(process: int | None) -> bool:
    try:
        os.kill(process or 0, 0)
    except ProcessLookupError:
        return False
    return True


def process_of(jobs: TrainingJobs) -> int:
    """The only worker's."""
    (worker,) = jobs.workers
    assert worker.pid is not None
    return worker.pid


def finished(jobs: TrainingJobs, identifier: str) -> ClassifierRecord:
    eventually(lambda: jobs.get(identifier).status.is_terminal, "the job has ended", patience=3 * PATIENCE)
    return jobs.get(identifier)


def under_way(jobs: TrainingJobs, identifier: str) -> None:
    eventually(lambda: jobs.get(identifier).progress is not None, "training is under way", patience=3 * PATIENCE)


def kill_in_attempt(jobs: TrainingJobs, identifier: str, attempt: int) -> None:
    eventually(lambda: jobs.get(identifier).attempt == attempt, f"attempt {attempt} has begun", patience=3 * PATIENCE)
    under_way(jobs, identifier)
    os.kill(process_of(jobs), signal.SIGKILL)
    eventually(lambda: jobs.get(identifier).progress is None or jobs.get(identifier).status != "running", "is noticed")


def ready(jobs: TrainingJobs) -> None:
    everything = "all workers are warm"
    eventually(lambda: all(worker.state == "ready" for worker in jobs.workers), everything, patience=3 * PATIENCE)


@contextmanager
def kept_warm(backend: Backend, state: Path) -> Iterator[TrainingJobs]:
    """Jobs on one warm worker, for tests that leave it warm."""
    jobs = jobs_with(backend, state)
    ready(jobs)
    process = process_of(jobs)
    yield jobs
    assert process_of(jobs) == process, "the process did not stay the same"
    jobs.stop()
    assert not is_alive(process)


@contextmanager
def starting(backend: Callable[[int], Backend], state: Path) -> Iterator[Start]:
    """A function that starts jobs on this many workers, with limits of jobs. They are stopped at the end."""
    started: list[TrainingJobs] = []

    def start(*, workers: int = 1, **limits: float) -> TrainingJobs:
        started.append(jobs_with(backend(workers), state, **limits))
        return started[-1]

    yield start
    for jobs in started:
        jobs.stop()
