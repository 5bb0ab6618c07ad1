"""A thread that watches over one training process on this machine, and replaces it when it dies or is killed.

Training runs in a process and not in a thread, so that it never delays a request, can be stopped at once, and gives
back all that it took.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from multiprocessing.connection import wait
from typing import final

from pydantic import ValidationError

from recall_server.errors import TrainingFailed
from recall_server.jobs.rows.records import JobError
from recall_server.jobs.workers.backend import BackendState, JobQueue, WorkerInfo
from recall_server.jobs.workers.worker import Failed, Lost, Progressed, Ready
from recall_server.jobs.workers.worker_process import SECONDS_TO_START, SECONDS_TO_STOP, Main, WorkerProcess

FAILED_STARTS = 3  # in a row, after which the worker counts as failed; it is still tried again
LONGEST_PAUSE = 30.0  # seconds between two attempts to start
SECONDS_BETWEEN_LOOKS = 0.5  # at whether another server has queued a job
UNWATCHED = "the server failed to watch over it"

logger = logging.getLogger(__name__)


@final
class WorkerSupervisor:
    """Trains one job at a time, in a process with this main function."""

    def __init__(self, name: str, main: Main) -> None:
        self._name, self._main = name, main
        self._lock = threading.Lock()
        self._cancelled: set[str] = set()
        self._wake_reader, self._wake_writer = multiprocessing.Pipe(duplex=False)
        self._woken = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed_starts = 0
        self._was_ready = False
        self._fault = ""  # of this start
        self._failure: str | None = None  # the fault of the latest start that has failed
        self._worker: WorkerProcess | None = None

    @property
    def info(self) -> WorkerInfo:
        worker = self._worker
        # A worker that was ready once is likely to start again when the machine has recovered.
        fault = self._failure if self._failed_starts >= FAILED_STARTS and not self._was_ready else None
        if worker is None:
            return WorkerInfo(state=self._state(ready=False), pid=None, device=None, fault=fault)
        ready = worker.device is not None
        state, pid = self._state(ready=ready), worker.process.pid
        return WorkerInfo(state=state, pid=pid, device=worker.device, fault=fault, node=worker.node)

    def start(self, queue: JobQueue) -> None:
        if self._thread is not None:
            raise RuntimeError("a worker is started once")
        self._thread = threading.Thread(target=self._supervise, args=(queue,), name=self._name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Interrupt the wait of the watching thread, which then looks at everything that may have changed."""
        with self._lock:
            if not self._woken:  # while the thread is busy, further bytes could fill the pipe and block the caller
                self._woken = True
                self._wake_writer.send_bytes(b"!")

    def cancel(self, identifier: str) -> None:
        """Stop this job if the worker has it."""
        with self._lock:
            self._cancelled.add(identifier)
        self.wake()

    def begin_stop(self) -> None:
        self._stopping.set()
        self.wake()

    def finish_stop(self) -> None:
        """Return once the process is gone."""
        if self._thread is None:
            return
        self._thread.join(SECONDS_TO_STOP)
        worker = self._worker
        if self._thread.is_alive() and worker is not None:  # in the middle of a transfer that does not end
            worker.process.kill()
            self._thread.join(SECONDS_TO_STOP)

    def _state(self, *, ready: bool) -> BackendState:
        if ready:
            return "ready"
        if self._failed_starts >= FAILED_STARTS or self._stopping.is_set():
            return "failed"
        return "restarting" if self._was_ready else "warming"

    def _supervise(self, queue: JobQueue) -> None:
        while not self._stopping.is_set():
            became_warm = False
            try:
                became_warm = self._serve(queue)
            except Exception as error:  # without this thread nothing would be trained here any more
                logger.exception("the server failed to watch over a training process")
                self._fault = f"the server failed to watch over it ({type(error).__name__})"
            if not became_warm:
                self._pause_after_failure()

    def _serve(self, queue: JobQueue) -> bool:
        """Run one process until it has to be replaced. Returns whether it ever became warm."""
        try:
            self._fault = ""
            worker = self._worker = WorkerProcess.start(self._name, self._main)
        except OSError as error:
            logger.exception("the training process cannot be started")
            self._fault = error.strerror or type(error).__name__
            return False
        try:
            self._watch(worker, queue)
        except Exception:
            if worker.job is not None:
                queue.lost(worker.job, UNWATCHED)
            raise
        finally:
            self._worker = None
            worker.kill()
        return worker.device is not None

    def _watch(self, worker: WorkerProcess, queue: JobQueue) -> None:
        """Serve jobs to this worker until it has to be replaced. The job that it had, if any, is then settled."""
        while True:
            self._dispatch(worker, queue)
            readable = wait([worker.connection, self._wake_reader], timeout=self._longest_wait(worker))
            if self._wake_reader in readable:
                self._was_woken()
            if self._was_cancelled(worker):
                return self._return_job(worker, queue)  # it has ended in the table, unless this is another attempt
            if worker.connection in readable and not self._hear(worker, queue):
                return self._return_job(worker, queue) if self._stopping.is_set() else self._lose_job(worker, queue)
            if self._stopping.is_set():
                return self._return_job(worker, queue)
            if worker.is_late():
                return self._end_late(worker, queue)

    def _was_woken(self) -> None:
        with self._lock:
            self._wake_reader.recv_bytes()
            self._woken = False

    def _dispatch(self, worker: WorkerProcess, queue: JobQueue) -> None:
        """Give the next job to an idle worker."""
        if worker.device is None or worker.job is not None or self._stopping.is_set():
            return
        with self._lock:
            self._cancelled.clear()  # these were meant for jobs that have ended meanwhile
        job = queue.take()
        if job is None:
            return
        try:
            worker.give(job)
        except OSError:
            logger.warning("the training process did not take its task")  # the next read settles the job

    def _longest_wait(self, worker: WorkerProcess) -> float | None:
        """Seconds until something may be due that neither pipe announces."""
        if worker.deadline is not None:
            return max(0.0, worker.deadline - time.monotonic())
        return SECONDS_BETWEEN_LOOKS

    def _hear(self, worker: WorkerProcess, queue: JobQueue) -> bool:
        """Pass on one message. Returns whether the worker can go on."""
        try:
            message, classifier = worker.receive()
        except (EOFError, OSError, ValidationError):
            return False
        if isinstance(message, Ready):
            self._became_warm(worker, message)
            return True
        if isinstance(message, Lost):
            worker.reason = message.reason
            return False
        if isinstance(message, Failed):
            self._fail_job(worker, queue, message)
            return message.traceback is None
        if worker.job is None:
            return False
        if isinstance(message, Progressed):
            if queue.progressed(worker.job, message.progress):
                return True
            worker.end_job()
            return False  # nobody wants this training, and only a new process ends it
        self._finish(worker, queue, classifier, message.seconds)
        return True

    def _finish(self, worker: WorkerProcess, queue: JobQueue, classifier: bytes, seconds: float) -> None:
        """Hand over a classifier. The next training has begun by then, so that the worker does not wait for disks."""
        done = worker.job
        assert done is not None
        worker.end_job()
        self._dispatch(worker, queue)
        try:
            queue.succeeded(done, classifier, seconds)
        except Exception:
            queue.lost(done, UNWATCHED)
            raise

    def _became_warm(self, worker: WorkerProcess, ready: Ready) -> None:
        worker.became_warm(ready)
        self._was_ready, self._failed_starts = True, 0
        where = f"{ready.device} of node {ready.node}" if ready.node else ready.device
        logger.info("%s trains on %s", self._name, where)
        if ready.slow:
            logger.warning("%s trains at half the speed: the kernels are not compiled there", self._name)

    def _fail_job(self, worker: WorkerProcess, queue: JobQueue, message: Failed) -> None:
        if message.traceback is not None:
            logger.error("training failed unexpectedly\n%s", message.traceback)
        if worker.job is None:
            self._fault = message.error.detail
        else:
            queue.failed(worker.job, message.error)
            worker.end_job()

    def _was_cancelled(self, worker: WorkerProcess) -> bool:
        """Whether the running job was cancelled."""
        with self._lock:
            return worker.job is not None and worker.job.identifier in self._cancelled

    def _return_job(self, worker: WorkerProcess, queue: JobQueue) -> None:
        if worker.job is not None:
            queue.returned(worker.job)

    def _lose_job(self, worker: WorkerProcess, queue: JobQueue) -> None:
        if worker.job is None and worker.device is None and self._fault:
            return  # the process has said why it ends
        if not worker.reason:
            worker.process.join(SECONDS_TO_STOP)
            worker.reason = f"the training process ended (exit code {worker.process.exitcode})"
        if worker.job is None:
            self._fault = worker.reason
        else:
            queue.lost(worker.job, worker.reason)

    def _end_late(self, worker: WorkerProcess, queue: JobQueue) -> None:
        if worker.job is None:
            self._fault = "the training process was not warm in time"
            logger.error("%s, which is %g seconds", self._fault, SECONDS_TO_START)
            return
        detail = f"training took longer than {worker.job.seconds:g} seconds"
        queue.failed(worker.job, JobError(kind=TrainingFailed.__name__, detail=detail))

    def _pause_after_failure(self) -> None:
        """Wait before another start, longer after each failure. Meanwhile other workers may take the jobs."""
        if self._stopping.is_set():
            return
        self._failure = self._fault
        self._failed_starts += 1
        failures = f"{self._failed_starts} failures in a row"
        logger.error("no training process could be started (%s), trying again: %s", failures, self._fault)
        self._stopping.wait(min(LONGEST_PAUSE, 2.0 ** (self._failed_starts - 1)))
