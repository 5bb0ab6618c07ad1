"""One warm training process on this machine, watched by a thread: started again whenever it dies or is killed.

A process and not a thread, so that training never holds up a request, a cancelled training stops at once, and
whatever it took is given back.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import threading
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import final

from pydantic import ValidationError

from recall_server.errors import TrainingFailed
from recall_server.jobs.rows.records import JobError
from recall_server.jobs.workers.backend import Assignment, BackendState, JobQueue, WorkerInfo
from recall_server.jobs.workers.processes import prepared
from recall_server.jobs.workers.worker import MESSAGES, Progressed, Ready, Succeeded, run_worker

FAILED_STARTS = 3  # in a row, after which this counts as failed, though it is tried again
LONGEST_PAUSE = 30.0  # seconds between two attempts to start
SECONDS_BETWEEN_LOOKS = 0.5  # at whether another server has queued a job
SECONDS_TO_STOP = 10.0
UNWATCHED = "the server failed to watch over it"

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Worker:
    """A running process, our end of its pipe, and what it is doing."""

    process: BaseProcess
    connection: Connection
    device: str | None = None  # None until it is warm
    job: Assignment | None = None
    deadline: float | None = None

    def kill(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join(SECONDS_TO_STOP)

    def end_job(self) -> None:
        self.job = self.deadline = None


@final
class WorkerSupervisor:
    """Trains one job at a time, on one device. `threads` 0 leaves the number to torch, which takes all cores."""

    def __init__(self, name: str, device: str, threads: int) -> None:
        self._name, self._device, self._threads = name, device, threads
        self._lock = threading.Lock()
        self._cancelled: set[str] = set()
        self._wake_reader, self._wake_writer = multiprocessing.Pipe(duplex=False)
        self._woken = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed_starts = 0
        self._was_ready = False
        self._worker: _Worker | None = None

    @property
    def info(self) -> WorkerInfo:
        worker = self._worker
        if worker is None:
            return WorkerInfo(state=self._state(ready=False), pid=None, device=None)
        ready = worker.device is not None
        return WorkerInfo(state=self._state(ready=ready), pid=worker.process.pid, device=worker.device)

    def start(self, source: JobQueue) -> None:
        if self._thread is not None:
            raise RuntimeError("a worker is started once")
        self._thread = threading.Thread(target=self._supervise, args=(source,), name=self._name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Interrupt the watching thread's wait; whatever changed, it looks at everything."""
        with self._lock:
            if not self._woken:  # or many calls would fill the pipe of a thread that is busy, and then block
                self._woken = True
                self._wake_writer.send_bytes(b"!")

    def cancel(self, identifier: str) -> None:
        """Stop this job, if it is the one."""
        with self._lock:
            self._cancelled.add(identifier)
        self.wake()

    def begin_stop(self) -> None:
        self._stopping.set()
        self.wake()

    def finish_stop(self) -> None:
        if self._thread is not None:
            self._thread.join(2 * SECONDS_TO_STOP)

    def _state(self, *, ready: bool) -> BackendState:
        if ready:
            return "ready"
        if self._failed_starts >= FAILED_STARTS or self._stopping.is_set():
            return "failed"
        return "restarting" if self._was_ready else "warming"

    def _supervise(self, source: JobQueue) -> None:
        while not self._stopping.is_set():
            good = False
            try:
                good = self._serve(source)
            except Exception:  # this thread must outlive whatever it meets, or nothing would be trained here again
                logger.exception("a training process cannot be watched over")
            if not good:
                self._failed()

    def _serve(self, source: JobQueue) -> bool:
        """Run one process until it has to be replaced. False where it never got warm."""
        worker = self._worker = self._spawn()
        if worker is None:
            return False
        try:
            self._watch(worker, source)
        except Exception:
            if worker.job is not None:
                source.lost(worker.job, UNWATCHED)
            raise
        finally:
            self._worker = None
            worker.kill()
        return worker.device is not None

    def _spawn(self) -> _Worker | None:
        with contextlib.ExitStack() as unused:
            try:
                context = prepared()
                ours, theirs = context.Pipe()
                unused.enter_context(ours)
                with theirs:  # closed here, or the end of the process would not close the pipe
                    process = context.Process(
                        target=run_worker, args=(theirs, self._device, self._threads), name=self._name, daemon=True
                    )
                    process.start()
            except OSError:
                logger.exception("the training process cannot be started")
                return None
            unused.pop_all()
        return _Worker(process, ours)

    def _watch(self, worker: _Worker, source: JobQueue) -> None:
        """Serve jobs to this worker until it has to be replaced; the job it had, if any, has then been dealt with."""
        while True:
            self._dispatch(worker, source)
            readable = wait([worker.connection, self._wake_reader], timeout=self._pause(worker))
            if self._wake_reader in readable:
                self._was_woken()
            if self._was_cancelled(worker):
                return self._returned(worker, source)  # which counts for nothing, unless another attempt was meant
            if worker.connection in readable and not self._hear(worker, source):
                return self._was_lost(worker, source)
            if self._stopping.is_set():
                return self._returned(worker, source)
            if worker.deadline is not None and time.monotonic() >= worker.deadline:
                return self._took_too_long(worker, source)

    def _was_woken(self) -> None:
        with self._lock:
            self._wake_reader.recv_bytes()
            self._woken = False

    def _dispatch(self, worker: _Worker, source: JobQueue) -> None:
        """Hand the next job to an idle worker."""
        if worker.device is None or worker.job is not None or self._stopping.is_set():
            return
        with self._lock:
            self._cancelled.clear()  # they were meant for jobs that have ended meanwhile
        worker.job = job = source.take()
        if job is None:
            return
        worker.deadline = time.monotonic() + job.seconds
        try:
            worker.connection.send_bytes(job.task)
        except OSError:
            logger.warning("the training process is gone")  # reading from it, next, tells the rest
        worker.job = replace(job, task=b"")  # which may be large, and is with the worker now

    def _pause(self, worker: _Worker) -> float | None:
        """Seconds until there may be something to do that nobody tells."""
        if worker.deadline is not None:
            return max(0.0, worker.deadline - time.monotonic())
        return SECONDS_BETWEEN_LOOKS if worker.device is not None else None

    def _hear(self, worker: _Worker, source: JobQueue) -> bool:
        """Pass on one message. False where it was the last one, or does not read as one."""
        try:
            message = MESSAGES.validate_json(worker.connection.recv_bytes())
            classifier = worker.connection.recv_bytes() if isinstance(message, Succeeded) else b""
        except (EOFError, OSError, ValidationError):
            return False
        if isinstance(message, Ready):
            worker.device = message.device
            self._was_ready, self._failed_starts = True, 0
            return True
        if worker.job is None:
            return False
        if isinstance(message, Progressed):
            if source.progressed(worker.job, message.progress):
                return True
            worker.end_job()
            return False  # a training that nobody wants: replacing the process is the only way to end it
        goes_on = True
        if isinstance(message, Succeeded):
            source.succeeded(worker.job, classifier, message.seconds)
        else:
            if message.traceback is not None:
                goes_on = False
                logger.error("training failed unexpectedly\n%s", message.traceback)
            source.failed(worker.job, message.error)
        worker.end_job()
        return goes_on

    def _was_cancelled(self, worker: _Worker) -> bool:
        """Whether the running job was cancelled."""
        with self._lock:
            return worker.job is not None and worker.job.identifier in self._cancelled

    def _returned(self, worker: _Worker, source: JobQueue) -> None:
        if worker.job is not None:
            source.returned(worker.job)

    def _was_lost(self, worker: _Worker, source: JobQueue) -> None:
        if worker.job is not None:
            worker.process.join(SECONDS_TO_STOP)
            source.lost(worker.job, f"the training process ended (exit code {worker.process.exitcode})")

    def _took_too_long(self, worker: _Worker, source: JobQueue) -> None:
        if worker.job is not None:
            detail = f"training took longer than {worker.job.seconds:g} seconds"
            source.failed(worker.job, JobError(kind=TrainingFailed.__name__, detail=detail))

    def _failed(self) -> None:
        """Try again after a pause that grows. Jobs wait meanwhile: another worker or server may take them."""
        if self._stopping.is_set():
            return
        self._failed_starts += 1
        logger.error("there is no training process: another try follows (%d in a row failed)", self._failed_starts)
        self._stopping.wait(min(LONGEST_PAUSE, 2.0 ** (self._failed_starts - 1)))
