"""One warm training process on this machine, watched by a thread: started again whenever it dies or is killed.

A process and not a thread, so that training never holds up a request, a cancelled training stops at once, and
whatever it took is given back. Started with `spawn`, because `fork` breaks CUDA and locks.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import final

from pydantic import ValidationError

from recall_server.errors import TrainingFailed
from recall_server.jobs.backend import BackendListener, BackendState
from recall_server.jobs.records import FinishedFile, JobError, Progress
from recall_server.jobs.task import TrainingTask
from recall_server.jobs.worker import MESSAGES, Failed, Progressed, Ready, Succeeded, run_worker

FAILED_STARTS = 3  # in a row, after which waiting jobs are failed instead of kept waiting
LONGEST_PAUSE = 30.0  # seconds between two attempts to start
SECONDS_TO_STOP = 10.0
WAIT_POLICY = "OMP_WAIT_POLICY"
STOPPED = "the server stopped before this was trained"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Job:
    identifier: str
    task: TrainingTask
    path: Path


@dataclass(eq=False)
class _Worker:
    """A running process, our end of its pipe, and what it is doing."""

    process: BaseProcess
    connection: Connection
    ready: bool = False
    job: _Job | None = None
    deadline: float | None = None

    def kill(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join(SECONDS_TO_STOP)


@final
class _GuardedListener:
    """A listener whose errors are logged: they must not end the thread that watches over the process."""

    def __init__(self, listener: BackendListener) -> None:
        self._listener = listener

    def started(self, identifier: str) -> None:
        with _logged():
            self._listener.started(identifier)

    def progressed(self, identifier: str, progress: Progress) -> None:
        with _logged():
            self._listener.progressed(identifier, progress)

    def succeeded(self, identifier: str, file: FinishedFile, seconds: float) -> None:
        with _logged():
            self._listener.succeeded(identifier, file, seconds)

    def failed(self, identifier: str, error: JobError) -> None:
        with _logged():
            self._listener.failed(identifier, error)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except Exception:
        logger.exception("what a job came to could not be recorded")


@final
class LocalBackend:
    """Trains one job at a time. `threads` 0 leaves the number to torch, which takes all cores."""

    def __init__(self, *, device: str = "auto", threads: int = 0, training_seconds: float = 600.0) -> None:
        self._device, self._threads, self._training_seconds = device, threads, training_seconds
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._cancelled: set[str] = set()
        self._wake_reader, self._wake_writer = multiprocessing.Pipe(duplex=False)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed_starts = 0
        self._was_ready = False
        self._worker: _Worker | None = None
        self._used_device: str | None = None

    @property
    def state(self) -> BackendState:
        worker = self._worker
        if worker is not None and worker.ready:
            return "ready"
        if self._failed_starts >= FAILED_STARTS or self._stopping.is_set():
            return "failed"
        return "restarting" if self._was_ready else "warming"

    @property
    def device(self) -> str | None:
        return self._used_device

    @property
    def process_id(self) -> int | None:
        """Of the training process; None while there is none."""
        worker = self._worker
        return None if worker is None else worker.process.pid

    def start(self, listener: BackendListener) -> None:
        if self._thread is not None:
            raise RuntimeError("a backend is started once")
        guarded = _GuardedListener(listener)
        self._thread = threading.Thread(target=self._supervise, args=(guarded,), name="training", daemon=True)
        self._thread.start()

    def submit(self, identifier: str, task: TrainingTask, path: Path) -> None:
        with self._lock:
            self._waiting.append(_Job(identifier, task, path))
        self._wake()

    def cancel(self, identifier: str) -> None:
        with self._lock:
            kept = [job for job in self._waiting if job.identifier != identifier]
            if len(kept) < len(self._waiting):
                self._waiting = deque(kept)
                return
            self._cancelled.add(identifier)
        self._wake()

    def stop(self) -> None:
        self._stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(2 * SECONDS_TO_STOP)

    def _wake(self) -> None:
        """Interrupt the watching thread's wait; whatever changed, it looks at everything."""
        self._wake_writer.send_bytes(b"!")

    def _supervise(self, listener: BackendListener) -> None:
        while not self._stopping.is_set():
            worker = self._spawn()
            if worker is not None:
                self._worker = worker
                self._watch(worker, listener)
                self._worker = None
                worker.kill()
            if worker is None or not worker.ready:
                self._start_failed(listener)
        self._fail_waiting(listener, STOPPED)

    def _spawn(self) -> _Worker | None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=run_worker, args=(theirs, self._device, self._threads), name="training", daemon=True
        )
        try:
            with _blocking_threads():
                process.start()
        except OSError:
            logger.exception("the training process cannot be started")
            ours.close()
            return None
        finally:
            theirs.close()  # or the end of the process would not close the pipe
        return _Worker(process, ours)

    def _watch(self, worker: _Worker, listener: BackendListener) -> None:
        """Serve jobs to this worker until it has to be replaced; the job it had, if any, has then been dealt with."""
        while True:
            self._dispatch(worker, listener)
            pause = None if worker.deadline is None else max(0.0, worker.deadline - time.monotonic())
            readable = wait([worker.connection, self._wake_reader], timeout=pause)
            if self._wake_reader in readable:
                self._wake_reader.recv_bytes()
            if worker.connection in readable and not self._hear(worker, listener):
                self._end_job(worker, listener, f"the training process ended (exit code {_exit_code(worker)})")
                return
            if self._stopping.is_set():
                self._end_job(worker, listener, STOPPED)
                return
            if self._was_cancelled(worker):
                return
            if worker.deadline is not None and time.monotonic() >= worker.deadline:
                self._end_job(worker, listener, f"training took longer than {self._training_seconds:g} seconds")
                return

    def _dispatch(self, worker: _Worker, listener: BackendListener) -> None:
        """Hand the next job to an idle worker."""
        with self._lock:
            if not worker.ready or worker.job is not None or not self._waiting or self._stopping.is_set():
                return
            worker.job = job = self._waiting.popleft()
        listener.started(job.identifier)
        worker.deadline = time.monotonic() + self._training_seconds
        try:
            worker.connection.send_bytes(str(job.path).encode())
            worker.connection.send_bytes(job.task.to_bytes())
        except OSError:
            logger.warning("the training process is gone")  # reading from it, next, tells the rest

    def _hear(self, worker: _Worker, listener: BackendListener) -> bool:
        """Pass on one message. False where it was the last one, or does not read as one."""
        try:
            message = MESSAGES.validate_json(worker.connection.recv_bytes())
        except (EOFError, OSError, ValidationError):
            return False
        job = worker.job
        if isinstance(message, Ready):
            worker.ready = self._was_ready = True
            self._failed_starts = 0
            self._used_device = message.device
        elif job is None or job.identifier in self._cancelled:
            pass
        elif isinstance(message, Progressed):
            listener.progressed(job.identifier, message.progress)
        elif isinstance(message, Succeeded):
            listener.succeeded(job.identifier, message.file, message.seconds)
        else:
            listener.failed(job.identifier, message.error)
        if isinstance(message, Succeeded | Failed):
            worker.job = worker.deadline = None
        return not (isinstance(message, Failed) and message.and_ended)

    def _was_cancelled(self, worker: _Worker) -> bool:
        """Whether the running job was cancelled. Cancellations of jobs that ended meanwhile are forgotten here."""
        with self._lock:
            hit = worker.job is not None and worker.job.identifier in self._cancelled
            self._cancelled.clear()
        return hit

    def _end_job(self, worker: _Worker, listener: BackendListener, reason: str) -> None:
        if not self._stopping.is_set():
            logger.error("%s", reason)
        if worker.job is not None and not self._was_cancelled(worker):
            listener.failed(worker.job.identifier, JobError(kind=TrainingFailed.__name__, detail=reason))

    def _start_failed(self, listener: BackendListener) -> None:
        """Try again after a pause that grows; jobs do not wait for ever for a process that never starts."""
        if self._stopping.is_set():
            return
        self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS:
            self._fail_waiting(listener, "the training process cannot be started; the server's log says more")
        self._stopping.wait(min(LONGEST_PAUSE, 2.0 ** (self._failed_starts - 1)))

    def _fail_waiting(self, listener: BackendListener, reason: str) -> None:
        with self._lock:
            jobs, self._waiting = list(self._waiting), deque()
        for job in jobs:
            listener.failed(job.identifier, JobError(kind=TrainingFailed.__name__, detail=reason))


@contextlib.contextmanager
def _blocking_threads() -> Iterator[None]:
    """Let a process started here put its idle OpenMP threads to sleep, unless the operator has chosen otherwise.

    By default they spin while they wait for each other. On two cores that something else keeps busy, that made a step
    of training 2 to 100 times slower than a single thread; asleep, they cost nothing worth measuring.
    """
    chosen = os.environ.get(WAIT_POLICY)
    os.environ[WAIT_POLICY] = chosen or "PASSIVE"
    try:
        yield
    finally:
        if chosen is None:
            del os.environ[WAIT_POLICY]


def _exit_code(worker: _Worker) -> int | None:
    worker.process.join(SECONDS_TO_STOP)
    return worker.process.exitcode
