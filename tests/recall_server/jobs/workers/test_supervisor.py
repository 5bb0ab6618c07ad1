"""The processes that train: warm, watched, replaced when they die, and gone when the server goes."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from benchmarks.process_tree import LISTED, children
from recall_server.jobs.claimed_jobs import ClaimedJobs
from recall_server.jobs.rows.records import JobError, JobStatus, Progress
from recall_server.jobs.rows.task import TrainingTask
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.jobs.workers import local, supervisor, worker, worker_process
from recall_server.jobs.workers.backend import Assignment
from recall_server.jobs.workers.local import LocalBackend
from recall_server.jobs.workers.worker import Lost, Ready, Succeeded
from tests.recall_server.job_examples import ENDLESS, record, training_task
from tests.recall_server.watched_jobs import (
    Start,
    finished,
    is_alive,
    kept_warm,
    process_of,
    ready,
    starting,
    under_way,
)
from tests.suite.needs import needs_proc
from tests.suite.waiting import PATIENCE, eventually

pytestmark = pytest.mark.process


def local_backend(workers: int) -> LocalBackend:
    return LocalBackend(device="cpu", threads=1, workers=workers)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingJobs]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_WAIT_POLICY", raising=False)
        with kept_warm(local_backend(1), tmp_path_factory.mktemp("state")) as jobs:
            assert "OMP_WAIT_POLICY" not in os.environ
            yield jobs


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(local_backend, tmp_path) as start:
        yield start


def test_several_processes_train_independently(start: Start) -> None:
    jobs = start(workers=2)
    ready(jobs)
    for name in ("one", "other"):
        jobs.submit(record(name), training_task(steps=ENDLESS, seed=len(name)))
    for name in ("one", "other"):
        under_way(jobs, name)
    before = {worker.pid for worker in jobs.workers}
    assert len(before) == 2
    jobs.cancel("one")
    eventually(lambda: len(before & {worker.pid for worker in jobs.workers}) == 1, "one process is killed")
    assert jobs.get("other").status is JobStatus.RUNNING
    assert jobs.get("other").attempt == 1
    assert finished(jobs, jobs.submit(record("next"), training_task()).record.id).status is JobStatus.SUCCEEDED
    assert jobs.get("other").status is JobStatus.RUNNING


class Listed:
    """A `JobQueue` of trainings with these names, which lists what happens."""

    def __init__(self, *names: str) -> None:
        self.waiting, self.told = list(names), list[str]()

    def take(self) -> Assignment | None:
        if not self.waiting:
            return None
        name = self.waiting.pop(0)
        self.told.append(f"{name} taken")
        return Assignment(name, 1, training_task().to_bytes(), 60.0)

    def progressed(self, assignment: Assignment, progress: Progress) -> bool:
        return True

    def succeeded(self, assignment: Assignment, classifier: bytes, seconds: float) -> None:
        self.told.append(f"{assignment.identifier} succeeded")

    def failed(self, assignment: Assignment, error: JobError) -> None:
        self.told.append(f"{assignment.identifier} failed")

    def lost(self, assignment: Assignment, reason: str) -> None:
        self.told.append(f"{assignment.identifier} lost")

    def returned(self, assignment: Assignment) -> None:
        self.told.append(f"{assignment.identifier} returned")


def test_the_next_training_begins_before_the_end_of_the_last_is_written_down() -> None:
    queue, backend = Listed("one", "other"), local_backend(1)
    backend.start(queue)
    try:
        eventually(lambda: len(queue.told) == 4, "both have ended", patience=3 * PATIENCE)
    finally:
        backend.stop()
    assert queue.told == ["one taken", "other taken", "one succeeded", "other succeeded"]


def test_a_training_yields_the_processor_to_the_server(warm: TrainingJobs) -> None:
    assert os.getpriority(os.PRIO_PROCESS, process_of(warm)) > os.getpriority(os.PRIO_PROCESS, os.getpid())


@needs_proc
def test_the_threads_of_the_process_sleep_while_they_wait(warm: TrainingJobs) -> None:
    assert b"OMP_WAIT_POLICY=PASSIVE" in Path(f"/proc/{process_of(warm)}/environ").read_bytes()


def test_a_dead_process_is_replaced_by_a_fork_of_a_loaded_one(start: Start) -> None:
    jobs = start()
    ready(jobs)
    process = process_of(jobs)
    loaded = [each for each in children(os.getpid()) if process in children(each)]
    assert len(loaded) == LISTED
    os.kill(process, signal.SIGKILL)
    eventually(lambda: jobs.backend_state == "ready" and process_of(jobs) != process, "another one is warm")
    assert [each for each in children(os.getpid()) if process_of(jobs) in children(each)] == loaded


def die(*_: object, **__: object) -> None:
    """A worker that does not get as far as being ready."""
    os._exit(7)


def freeze(*_: object, **__: object) -> None:
    """A worker that never becomes warm, and does not end."""
    os.kill(os.getpid(), signal.SIGSTOP)


def unable(connection: Connection, device: str, threads: int) -> None:
    """A worker whose libraries fail, as those do that look for the home of a user who has none."""

    def fail(_: str) -> None:
        raise KeyError("getpwuid(): uid not found")

    worker.warm_up = fail
    worker.run_worker(connection, device, threads)


def keep_the_file(kept: Path, connection: Connection, device: str, threads: int) -> None:
    """A worker that announces a classifier and stops before it has sent it. The next one is as any other."""
    if kept.exists():
        return worker.run_worker(connection, device, threads)
    kept.touch()
    connection.send_bytes(Ready(device="cpu").model_dump_json().encode())
    connection.recv_bytes()
    connection.send_bytes(Succeeded(seconds=1.0, sha256=sha256(b"").hexdigest()).model_dump_json().encode())
    os.kill(os.getpid(), signal.SIGSTOP)


def send_in_its_place(sent: bytes, kept: Path, connection: Connection, device: str, threads: int) -> None:
    """A worker that announces a classifier and sends something else. The next one is as any other."""
    if kept.exists():
        return worker.run_worker(connection, device, threads)
    kept.touch()
    connection.send_bytes(Ready(device="cpu").model_dump_json().encode())
    classifier = TrainingTask.from_bytes(connection.recv_bytes()).train(device="cpu")
    announced = Succeeded(seconds=1.0, sha256=sha256(classifier).hexdigest())
    connection.send_bytes(announced.model_dump_json().encode())
    connection.send_bytes(sent or classifier[:-1])
    connection.recv_bytes()  # the server closes the pipe


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "SECONDS_TO_TRANSFER", 0.5)


@pytest.mark.usefixtures("impatient")
def test_a_stopped_process_that_does_not_take_its_task_is_replaced(start: Start) -> None:
    jobs = start()
    ready(jobs)
    stopped = process_of(jobs)
    os.kill(stopped, signal.SIGSTOP)
    large = training_task(interim=bytes(2**22))  # more than a pipe holds
    done = finished(jobs, jobs.submit(record(), large).record.id)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)
    assert not is_alive(stopped)


@pytest.mark.usefixtures("impatient")
def test_a_stopped_process_that_does_not_send_its_classifier_is_replaced(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "run_worker", partial(keep_the_file, tmp_path / "kept"))
    jobs = start()
    ready(jobs)
    stopped = process_of(jobs)
    done = finished(jobs, jobs.submit(record(), training_task()).record.id)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)
    assert not is_alive(stopped)


@pytest.mark.parametrize(
    "sent",
    [
        Lost(reason="the node is gone").model_dump_json().encode(),
        Succeeded(seconds=1.0, sha256="").model_dump_json().encode(),
        b"no message",
        b"",
    ],
    ids=["lost", "another announcement", "no message", "a part of the file"],
)
def test_what_comes_in_place_of_a_classifier_is_not_taken_for_one(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sent: bytes
) -> None:
    """As when a node of a cluster dies between the two messages: the process that drives it says that it is lost."""
    monkeypatch.setattr(local, "run_worker", partial(send_in_its_place, sent, tmp_path / "kept"))
    jobs = start()
    ready(jobs)
    done = finished(jobs, jobs.submit(record(), training_task()).record.id)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)
    assert jobs.read(done.id) == training_task().train(device="cpu")


def test_a_stopped_process_does_not_delay_the_end_of_the_server(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SECONDS_TO_STOP", 1.0)
    jobs = start()
    ready(jobs)
    stopped = process_of(jobs)
    os.kill(stopped, signal.SIGSTOP)
    identifier = jobs.submit(record(), training_task(interim=bytes(2**22))).record.id
    eventually(lambda: jobs.get(identifier).status is JobStatus.RUNNING, "its task is being sent")
    began = time.monotonic()
    jobs.stop()
    assert time.monotonic() - began < 10
    assert not is_alive(stopped)
    assert (jobs.get(identifier).status, jobs.get(identifier).attempt) == (JobStatus.QUEUED, 1)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon, and try again soon."""
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(supervisor, "FAILED_STARTS", 2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("main", "reason"),
    [
        (die, "the training process ended (exit code 7)"),
        (freeze, "the training process was not warm in time"),
        (unable, "the training process cannot train (KeyError); the server's log says more"),
    ],
)
def test_a_process_that_never_starts_is_reported_and_its_jobs_fail(
    start: Start, monkeypatch: pytest.MonkeyPatch, main: Callable[..., None], reason: str
) -> None:
    if main is freeze:
        monkeypatch.setattr(worker_process, "SECONDS_TO_START", 0.5)
    monkeypatch.setattr(local, "run_worker", main)
    jobs = start()
    waiting = jobs.submit(record(), training_task()).record.id
    eventually(lambda: jobs.room().reason == "no worker", "it is noticed")
    assert jobs.backend_state == "failed"
    failed = finished(jobs, waiting)
    assert failed.error == JobError(kind="WorkerLost", detail=f"no training process can be started: {reason}")
    assert jobs.workers[0].fault == reason


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("ForkServerProcess._Popen", BlockingIOError("Resource temporarily unavailable")),
        ("ForkServerProcess._Popen", RuntimeError("unforeseen")),
        ("BaseContext.Pipe", OSError("Too many open files")),
    ],
)
def test_a_process_that_cannot_be_created_is_reported_and_its_jobs_fail(
    start: Start, monkeypatch: pytest.MonkeyPatch, what: str, error: Exception
) -> None:
    submitted = threading.Event()

    def no_more_processes(*_: object, **__: object) -> None:
        submitted.wait(PATIENCE)  # or the server would know already that it has no worker, and refuse the job
        raise error

    with monkeypatch.context() as patch:  # the pauses of `hasty` stay short until it has recovered
        patch.setattr(f"multiprocessing.context.{what}", no_more_processes)
        jobs = start()
        waiting = jobs.submit(record(), training_task()).record.id
        submitted.set()
        eventually(lambda: jobs.room().reason == "no worker", "it is noticed")
        failed = finished(jobs, waiting)
        assert failed.error is not None and failed.error.detail.startswith("no training process can be started: ")
    eventually(lambda: jobs.room().accepting, "it recovers once processes can be created again")
    assert jobs.workers[0].fault is None


@pytest.mark.usefixtures("hasty")
def test_jobs_wait_for_a_worker_that_was_ready_before(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = start()
    ready(jobs)
    waiting = jobs.submit(record(), training_task(steps=ENDLESS)).record.id
    under_way(jobs, waiting)
    with monkeypatch.context() as patch:
        patch.setattr("multiprocessing.context.BaseContext.Pipe", no_pipe)
        os.kill(process_of(jobs), signal.SIGKILL)
        eventually(lambda: jobs.room().reason == "no worker", "it is noticed")
        assert jobs.workers[0].fault is None
        assert jobs.get(waiting).status is JobStatus.QUEUED
    under_way(jobs, waiting)
    jobs.cancel(waiting)


def no_pipe(*_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.usefixtures("hasty")
def test_an_error_of_the_server_costs_an_attempt_but_not_the_worker(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> bool:
        monkeypatch.undo()
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(ClaimedJobs, "progressed", fault)
    jobs = start()
    done = finished(jobs, jobs.submit(record(), training_task()).record.id)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)
    assert JobError(kind="WorkerLost", detail="attempt 1 of 2 was lost: the server failed to watch over it") in [
        event.error for event in jobs.events(done.id)
    ]


def test_a_job_deleted_elsewhere_is_stopped_and_does_not_affect_the_next(start: Start) -> None:
    jobs = start()
    forgotten = jobs.submit(record("forgotten"), training_task(steps=ENDLESS)).record.id
    under_way(jobs, forgotten)
    process = process_of(jobs)
    jobs._store.remove(forgotten)
    assert finished(jobs, jobs.submit(record("next"), training_task()).record.id).status is JobStatus.SUCCEEDED
    assert not is_alive(process)
