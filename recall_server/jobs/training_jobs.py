"""Training requests from submission to the finished file: store, files and backend put together."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any, final

from recall_server.errors import NotFound, NotReady, StorageFailed
from recall_server.jobs.backend import Backend, BackendState
from recall_server.jobs.files import ClassifierFiles
from recall_server.jobs.records import ClassifierRecord, FinishedFile, JobError, JobStatus, Progress, now
from recall_server.jobs.store import JobStore
from recall_server.jobs.task import TrainingTask

OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)
SECONDS_BETWEEN_LOOKS = 0.5  # of somebody who waits, at whether the server is stopping

logger = logging.getLogger(__name__)


@final
class TrainingJobs:
    """The verbs on classifiers that are or were trained here; the listener of its backend."""

    def __init__(self, store: JobStore, files: ClassifierFiles, backend: Backend) -> None:
        self._store, self._files, self._backend = store, files, backend
        self._lock = threading.Lock()
        self._unfinished: dict[str, Future[None]] = {}
        self._leaving = False

    @property
    def backend_state(self) -> BackendState:
        return self._backend.state

    @property
    def device(self) -> str | None:
        return self._backend.device

    def open(self) -> None:
        """Find the classifiers of earlier runs again. Raises StorageFailed where new ones could not be stored."""
        self._files.prepare()
        for record in self._files.records():
            self._store.add(record)

    def start(self) -> None:
        """Start the backend."""
        self._backend.start(self)

    def stop(self) -> None:
        """Stop the backend; what it had not finished is failed."""
        self._backend.stop()

    def submit(self, record: ClassifierRecord, task: TrainingTask) -> ClassifierRecord:
        """Queue a training. Raises StorageFailed where its result could not be stored."""
        path = self._files.workplace(record.id)
        with self._lock:
            self._unfinished[record.id] = Future()
        self._store.add(record)
        self._backend.submit(record.id, task, path)
        return record

    def get(self, identifier: str) -> ClassifierRecord:
        """The record as it is now; raises NotFound."""
        return self._store.get(identifier)

    def newest(self, limit: int) -> list[ClassifierRecord]:
        """At most `limit` records, newest first."""
        return self._store.newest(limit)

    async def wait(self, identifier: str, seconds: float) -> ClassifierRecord:
        """The record once it has reached its end, or as it is after `seconds` or `end_waits`; raises NotFound."""
        with self._lock:
            unfinished = self._unfinished.get(identifier)
        if unfinished is not None:
            ended = asyncio.wrap_future(unfinished)
            limit = time.monotonic() + seconds
            while not ended.done() and not self._leaving and (left := limit - time.monotonic()) > 0:
                # wait and not wait_for: the time-out of one listener must not cancel what others wait for.
                await asyncio.wait([ended], timeout=min(left, SECONDS_BETWEEN_LOOKS))
        return self._store.get(identifier)

    def end_waits(self) -> None:
        """Let everybody who waits go within a moment, for the server is about to stop. Safe in a signal handler."""
        self._leaving = True

    def cancel(self, identifier: str) -> ClassifierRecord:
        """Stop a job that has not ended; one that has ended is given back unchanged. Raises NotFound."""
        update = {"status": JobStatus.CANCELLED, "finished_at": now()}
        if self._store.change(identifier, OPEN, lambda record: record.model_copy(update=update)) is not None:
            self._backend.cancel(identifier)
            self._files.discard(identifier)
            self._release(identifier)
        return self._store.get(identifier)

    def delete(self, identifier: str) -> None:
        """Cancel if need be, and forget. Raises NotFound, and StorageFailed where the file cannot be removed."""
        self.cancel(identifier)
        self._files.remove(identifier)
        self._store.remove(identifier)

    def finished_file(self, identifier: str) -> Path:
        """Where the file of a classifier that has succeeded is; raises NotFound and NotReady."""
        status = self._store.get(identifier).status
        if status is not JobStatus.SUCCEEDED:
            raise NotReady(f"the classifier {identifier} cannot be used: it is {status}")
        return self._files.path(identifier)

    def read(self, identifier: str) -> bytes:
        """The bytes of that file."""
        self.finished_file(identifier)
        return self._files.read(identifier)

    def started(self, identifier: str) -> None:
        self._change(identifier, (JobStatus.QUEUED,), status=JobStatus.RUNNING, started_at=now())

    def progressed(self, identifier: str, progress: Progress) -> None:
        self._change(identifier, (JobStatus.RUNNING,), progress=progress)

    def succeeded(self, identifier: str, file: FinishedFile, seconds: float) -> None:
        end = {"status": JobStatus.SUCCEEDED, "finished_at": now(), "file": file, "seconds": seconds}
        try:
            self._files.commit(self._store.get(identifier).model_copy(update=end))
        except NotFound:
            return self._files.discard(identifier)  # deleted while the last step was under way
        except StorageFailed as error:
            return self.failed(identifier, JobError(kind=StorageFailed.__name__, detail=str(error)))
        if not self._change(identifier, OPEN, **end):
            self._files.remove(identifier)  # cancelled, likewise
        self._release(identifier)

    def failed(self, identifier: str, error: JobError) -> None:
        logger.error("training of classifier %s failed: %s", identifier, error.detail)
        self._files.discard(identifier)
        self._change(identifier, OPEN, status=JobStatus.FAILED, finished_at=now(), error=error)
        self._release(identifier)

    def _change(self, identifier: str, allowed: tuple[JobStatus, ...], **update: Any) -> bool:
        return self._store.change(identifier, allowed, lambda record: record.model_copy(update=update)) is not None

    def _release(self, identifier: str) -> None:
        """Wake whoever waits for the end."""
        with self._lock:
            unfinished = self._unfinished.pop(identifier, None)
        if unfinished is not None:
            unfinished.set_result(None)
