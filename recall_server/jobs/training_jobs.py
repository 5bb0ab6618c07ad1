"""The verbs on training requests, from submission to the finished file."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import final

from recall_server.errors import InvalidRequest, NotReady, Overloaded, StorageFailed, Unavailable
from recall_server.jobs.claimed_jobs import ClaimedJobs
from recall_server.jobs.counters import JobCounters, JobStatistics
from recall_server.jobs.limits import Admission, JobLimits
from recall_server.jobs.maintenance import Maintenance
from recall_server.jobs.queue_ages import QueueAges
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.identity import bind_folder, table_id
from recall_server.jobs.rows.leases import Lease
from recall_server.jobs.rows.records import (
    ClassifierRecord,
    Event,
    FinishedFile,
    IdempotencyKey,
    JobError,
    JobStatus,
    Listed,
    Page,
    Submitted,
)
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.rows.task import TrainingTask, fingerprint
from recall_server.jobs.watchers import Watcher, Watchers
from recall_server.jobs.workers.backend import Backend, BackendState, WorkerInfo

SECONDS_BETWEEN_LOOKS = 0.5  # of a waiting caller, at whether the server is stopping
SECONDS_TO_RECOVER = 10  # after which callers try a server again that cannot work at the moment
CURSOR_DIGITS = 9  # fits the INTEGER of every database
FILE_GONE = JobError(kind=StorageFailed.__name__, detail="the file of this classifier is missing")

logger = logging.getLogger(__name__)


@final
class TrainingJobs:
    """The jobs of a table and a state folder, which several servers may share.

    Safe to use from several threads. Every method raises StorageFailed if the table cannot be used.
    """

    def __init__(self, store: SqlJobStore, files: ClassifierFiles, backend: Backend, limits: JobLimits) -> None:
        self._store, self._files, self._backend, self._limits = store, files, backend, limits
        self._counters, self._watchers, self._queue = JobCounters(), Watchers(), QueueAges()
        self._lease = Lease(store.database, limits.lease_seconds)
        self._claimed = ClaimedJobs(
            store, files, self._lease, limits, queue=self._queue, counters=self._counters, watchers=self._watchers
        )
        self._maintenance = Maintenance(
            store,
            files,
            backend,
            limits,
            lease=self._lease,
            claimed=self._claimed,
            queue=self._queue,
            counters=self._counters,
            watchers=self._watchers,
        )
        self._draining = False

    @property
    def backend_state(self) -> BackendState:
        return self._backend.state

    @property
    def device(self) -> str | None:
        return self._backend.device

    @property
    def workers(self) -> tuple[WorkerInfo, ...]:
        return self._backend.workers

    def open(self) -> None:
        """Make the folders. Raises StorageFailed if they cannot be written to, or are not those of the table."""
        self._files.prepare(table_id(self._store.database))
        bind_folder(self._store.database, self._files.identity)
        self._queue.update(self._store.queued())

    def start(self) -> None:
        """Start the workers, the heartbeat and the maintenance. Raises StorageFailed."""
        self._lease.acquire()
        self._maintenance.start()
        self._backend.start(self._claimed)

    def begin_drain(self) -> None:
        """Accept and start no more jobs, and end all waits within a moment. May be called in a signal handler."""
        self._draining = self._claimed.closed = True

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Stop running jobs after `drain_seconds`. Jobs that have not ended wait in the queue for another server.

        Returns once no process is left.
        """
        self.begin_drain()
        self._claimed.close(drain_seconds)
        self._backend.stop()
        self._maintenance.stop()
        try:
            self._lease.release()
        except StorageFailed:
            logger.error("the end of this server could not be recorded; other servers notice it when its lease ends")
        self._store.close()

    def room(self) -> Admission:
        """Whether a job would be accepted. Reads counters in memory only."""
        limit, queued = self._limits.queue * len(self._backend.workers), self._queue.length
        if self._draining:
            return Admission(False, "draining", SECONDS_TO_RECOVER, queued, limit)
        if self._maintenance.storage_failed:
            return Admission(False, "storage", SECONDS_TO_RECOVER, queued, limit)
        if self._backend.state == "failed":
            return Admission(False, "no worker", SECONDS_TO_RECOVER, queued, limit)
        if queued >= limit:
            return self._full(queued, limit)
        return Admission(True, "", 0, queued, limit)

    def known(self, key: IdempotencyKey) -> ClassifierRecord | None:
        """The job that this key stands for, whatever became of it; None for a new key.

        A job whose classifier's file is gone counts as failed, and its keys as new. Raises Conflict if the key came
        with another request, and StorageFailed.
        """
        return self._unless_file_is_gone(self._store.known(key))

    def submit(self, record: ClassifierRecord, task: TrainingTask, *, key: IdempotencyKey | None = None) -> Submitted:
        """Queue a training, or return the job of an identical task or of the same key.

        A job is shared while it is queued or running, and after it has succeeded as long as its file is there. Raises
        Conflict as `known`, Overloaded if too many jobs wait, Unavailable if nobody is going to train, and
        StorageFailed.
        """
        data = task.to_bytes()
        digest = fingerprint(data)
        shared = self._shared(digest, key)
        if shared is not None:
            return Submitted(record=shared, created=False)
        submitted = self._enter(record, data, digest, key)
        if submitted.created:
            self._backend.wake()
        return submitted

    def keep(self, record: ClassifierRecord, classifier: bytes, *, key: IdempotencyKey | None = None) -> Submitted:
        """Store a classifier that needs no training, as a job that has succeeded. It is shared like a trained one.

        Raises Conflict as `known`, and StorageFailed.
        """
        digest = fingerprint(classifier)
        shared = self._shared(digest, key)
        if shared is not None:
            return Submitted(record=shared, created=False)
        self._files.save(record.id, record.attempt, classifier)
        submitted = None
        try:
            file = FinishedFile(bytes=len(classifier), sha256=hashlib.sha256(classifier).hexdigest())
            submitted = self._store.keep(record, file, fingerprint=digest, key=key)
        finally:
            if submitted is None or not submitted.created:
                self._files.remove_attempt(record.id, record.attempt)
        return submitted

    def task_file(self, identifier: str) -> Path:
        """The file from which an unfinished job is trained. Raises NotFound, and NotReady once the job has ended."""
        record = self._store.get(identifier)
        if record.status.is_terminal:
            raise NotReady(f"the classifier {identifier} is {record.status}")
        return self._files.task_path(identifier)

    def get(self, identifier: str) -> ClassifierRecord:
        """The record as it is now. Raises NotFound."""
        return self._store.get(identifier)

    def page(self, limit: int, cursor: str | None = None) -> Page:
        """At most `limit` jobs, newest first, fewer if long. Raises InvalidRequest for a cursor that is no `next`."""
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= CURSOR_DIGITS):
            raise InvalidRequest("the cursor must be the `next` of a page before", parameter="cursor")
        return self._store.page(limit, before=None if cursor is None else int(cursor))

    def records(self, entries: Iterable[Listed]) -> list[ClassifierRecord]:
        """The records of jobs on pages, newest first, without those that were removed meanwhile."""
        return self._store.records(entries)

    def events(self, identifier: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """At most `limit` events of a job after the event numbered `after`, oldest first. Raises NotFound."""
        return self._store.events(identifier, after=after, limit=limit)

    async def wait(self, identifier: str, seconds: float) -> ClassifierRecord:
        """The record once the job has ended, or as it is after `seconds` or `begin_drain`. Raises NotFound."""
        limit = time.monotonic() + seconds
        with self._watchers.watching(identifier) as watcher:
            while True:
                record = await asyncio.to_thread(self.get, identifier)
                if record.status.is_terminal or not await self._changed(watcher, limit):
                    return record

    async def wait_for_events(self, identifier: str, *, after: int, seconds: float) -> list[Event]:
        """The events after number `after` once there are any; an empty list after `seconds` or `begin_drain`."""
        limit = time.monotonic() + seconds
        with self._watchers.watching(identifier) as watcher:
            while True:
                events = await asyncio.to_thread(self.events, identifier, after=after)
                if events or not await self._changed(watcher, limit):
                    return events

    def cancel(self, identifier: str) -> ClassifierRecord:
        """Stop a job, unless it has ended, and return its record. Raises NotFound."""
        cancelled = self._store.cancelled(identifier)
        if cancelled is None:
            return self._store.get(identifier)
        self._backend.cancel(identifier)
        self._claimed.forget(identifier)
        self._queue.remove(identifier)
        self._files.discard_task(identifier)
        self._counters.add_end(cancelled.status)
        self._watchers.notify(identifier)
        return cancelled

    def delete(self, identifier: str) -> None:
        """Cancel a job and remove all of it. Raises NotFound, and StorageFailed if a file cannot be removed."""
        self.cancel(identifier)
        self._files.remove(identifier)
        self._store.remove(identifier)
        self._watchers.notify(identifier)

    def finished_file(self, identifier: str) -> Path:
        """The path of a trained classifier. Raises NotFound, and NotReady if the job has not succeeded."""
        return self._files.path(identifier, self._succeeded(identifier).attempt)

    def read(self, identifier: str) -> bytes:
        """The bytes of a trained classifier. Raises as `finished_file`."""
        return self._files.read(identifier, self._succeeded(identifier).attempt)

    def statistics(self) -> JobStatistics:
        """How many jobs wait and run in the table, and what this server has done."""
        waited = self._queue.update(self._store.queued())
        return self._counters.statistics(
            queued=len(waited),
            running=self._store.count(JobStatus.RUNNING),
            oldest=max(waited.values(), default=0.0),
        )

    def _shared(self, digest: str, key: IdempotencyKey | None) -> ClassifierRecord | None:
        """The job that answers the same request, from now on under this key too."""
        return self._unless_file_is_gone(self._store.share(digest, key))

    def _unless_file_is_gone(self, record: ClassifierRecord | None) -> ClassifierRecord | None:
        if record is not None and record.status is JobStatus.SUCCEEDED and not self._files.has(record):
            self._store.fail_without_file(record.id, FILE_GONE)
            return None
        return record

    def _enter(self, record: ClassifierRecord, data: bytes, digest: str, key: IdempotencyKey | None) -> Submitted:
        """Add a row. Its task is on the disk before a worker can take the job."""
        room = self.room()
        if room.reason == "full":
            raise _overloaded(room)
        if not room.accepting:
            raise Unavailable(f"this server cannot train at the moment: {room.reason}", retry_after=room.retry_after)
        self._files.save_task(record.id, data)
        submitted = None
        try:
            submitted = self._store.add(record, fingerprint=digest, limit=room.limit, key=key)
        finally:
            if submitted is None or not submitted.created:
                self._files.discard_task(record.id)
        self._queue.update(self._store.queued())
        if submitted is None:
            raise _overloaded(self._full(self._queue.length, room.limit))
        return submitted

    def _full(self, queued: int, limit: int) -> Admission:
        return Admission(False, "full", self._counters.retry_after(queued, len(self._backend.workers)), queued, limit)

    def _succeeded(self, identifier: str) -> ClassifierRecord:
        record = self._store.get(identifier)
        if record.status is not JobStatus.SUCCEEDED:
            raise NotReady(f"the classifier {identifier} cannot be used: it is {record.status}")
        return record

    async def _changed(self, watcher: Watcher, limit: float) -> bool:
        """Wait for a change of the job. Returns False at the time `limit` and when the server stops."""
        while not self._draining and (left := limit - time.monotonic()) > 0:
            if await watcher.wait(min(left, SECONDS_BETWEEN_LOOKS)):
                return True
        return False


def _overloaded(room: Admission) -> Overloaded:
    return Overloaded(f"{room.limit} trainings wait already, the most that may wait", retry_after=room.retry_after)
