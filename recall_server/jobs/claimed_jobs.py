"""The jobs that this server's workers have: claimed from the table, their ends written back to it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from recall_server.errors import NotFound, StorageBusy, StorageFailed
from recall_server.jobs.counters import JobCounters
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.queue_ages import QueueAges
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.leases import Lease
from recall_server.jobs.rows.records import ClassifierRecord, FinishedFile, JobError, JobStatus, Progress
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.rows.transitions import Claim
from recall_server.jobs.watchers import Watchers
from recall_server.jobs.workers.backend import Assignment

SECONDS_BETWEEN_NOTES = 0.5  # of the progress of one job, since each is a transaction

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Held:
    claim: Claim
    noted: float = 0.0  # on the monotonic clock
    last: Progress | None = None  # of the last step, which is written with the end


@final
class ClaimedJobs:
    """The `JobQueue` of one server's backend."""

    def __init__(
        self,
        store: SqlJobStore,
        files: ClassifierFiles,
        lease: Lease,
        limits: JobLimits,
        *,
        queue: QueueAges,
        counters: JobCounters,
        watchers: Watchers,
    ) -> None:
        self._store, self._files, self._lease, self._limits = store, files, lease, limits
        self._queue, self._counters, self._watchers = queue, counters, watchers
        self._held: dict[str, _Held] = {}
        self._changed = threading.Condition()
        self.closed = False

    @property
    def held(self) -> set[Claim]:
        """The claims of the jobs that the backend has."""
        with self._changed:
            return {held.claim for held in self._held.values()}

    def close(self, seconds: float) -> None:
        """Give out no more jobs, and wait at most `seconds` for the running ones."""
        self.closed = True
        with self._changed:
            self._changed.wait_for(lambda: not self._held, seconds)

    def take(self) -> Assignment | None:
        while not self.closed:
            try:
                claimed = self._store.claim(self._lease.owner)
            except StorageFailed:  # already in the log; the worker asks again
                return None
            except Exception:  # such as a row that a newer server wrote; it must not end the worker's thread
                logger.exception("the job that waits longest cannot be read")
                return None
            if claimed is None:
                return None
            claim, _, waited = claimed
            with self._changed:
                self._held[claim.identifier] = _Held(claim)
            self._queue.remove(claim.identifier)
            self._counters.add_stage("queue", waited)
            self._watchers.notify(claim.identifier)
            try:
                assignment = self._assignment(claim)
            except StorageBusy:
                self._end(claim, self._store.returned)  # the worker asks again
                return None
            if assignment is not None:
                return assignment
        return None

    def progressed(self, assignment: Assignment, progress: Progress) -> bool:
        held = self._find(assignment)
        if held is None:
            return False
        if progress.done >= progress.total:
            held.last = progress
            return True
        if time.monotonic() - held.noted < SECONDS_BETWEEN_NOTES:
            return True
        counts = True
        with _logged():
            counts = self._store.progressed(held.claim, progress)
        held.noted = time.monotonic()  # not before: a distant database answers later than the next progress comes
        self._watchers.notify(assignment.identifier)
        if not counts:
            self.drop(held.claim)
        return counts

    def succeeded(self, assignment: Assignment, classifier: bytes, seconds: float) -> None:
        held = self._find(assignment)
        if held is None:
            return
        file = FinishedFile(bytes=len(classifier), sha256=hashlib.sha256(classifier).hexdigest())
        try:
            self._files.save(assignment.identifier, assignment.attempt, classifier)
        except StorageBusy as error:
            return self.lost(assignment, str(error))
        except StorageFailed as error:
            return self.failed(assignment, JobError(kind=StorageFailed.__name__, detail=str(error)))
        if self._end(held.claim, lambda claim: self._finished(claim, file, seconds, held.last)):
            self._counters.add_stage("training", seconds)

    def failed(self, assignment: Assignment, error: JobError) -> None:
        held = self._find(assignment)
        if held is not None:
            logger.error("training of classifier %s failed: %s", assignment.identifier, error.detail)
            self._end(held.claim, lambda claim: self._store.failed(claim, error))

    def lost(self, assignment: Assignment, reason: str) -> None:
        held = self._find(assignment)
        if held is None:
            return
        logger.error("training of classifier %s was lost: %s", assignment.identifier, reason)
        record = self._end(held.claim, lambda claim: self._store.lost(claim, reason, attempts=self._limits.attempts))
        if record is not None and record.status is JobStatus.QUEUED:
            self._counters.add_retry()

    def returned(self, assignment: Assignment) -> None:
        held = self._find(assignment)
        if held is not None:
            self._end(held.claim, self._store.returned)

    def drop(self, claim: Claim) -> bool:
        """Ignore all further reports of this attempt. Returns False if it was not held any more."""
        with self._changed:
            held = self._held.get(claim.identifier)
            if held is None or held.claim != claim:
                return False
            del self._held[claim.identifier]
            self._changed.notify_all()
            return True

    def forget(self, identifier: str) -> None:
        """Ignore all further reports of the job: it has ended."""
        with self._changed:
            self._held.pop(identifier, None)
            self._changed.notify_all()

    def _find(self, assignment: Assignment) -> _Held | None:
        """The held attempt; None if it does not count any more."""
        held = self._held.get(assignment.identifier)
        return held if held is not None and held.claim.attempt == assignment.attempt else None

    def _finished(
        self, claim: Claim, file: FinishedFile, seconds: float, last: Progress | None
    ) -> ClassifierRecord | None:
        record = self._store.succeeded(claim, file, seconds, last)
        if record is None:  # not after a failure of the database, which may have recorded the file
            self._files.remove_attempt(claim.identifier, claim.attempt)
        return record

    def _assignment(self, claim: Claim) -> Assignment | None:
        """What a worker needs; None, after failing the job, if its task cannot be read. Raises StorageBusy."""
        empty = Assignment(claim.identifier, claim.attempt, b"", self._limits.training_seconds)
        try:
            task = self._files.task(claim.identifier)
        except StorageBusy:
            raise
        except (NotFound, StorageFailed) as error:
            self.failed(empty, JobError(kind=StorageFailed.__name__, detail=str(error)))
            return None
        return Assignment(claim.identifier, claim.attempt, task, self._limits.training_seconds)

    def _end(self, claim: Claim, write: Callable[[Claim], ClassifierRecord | None]) -> ClassifierRecord | None:
        """Write the end of an attempt. Returns None if the attempt no longer counts, or if nothing could be written.

        Only the table decides whether an attempt still counts: the job may be cancelled or deleted at any moment.
        """
        record = None
        try:
            with _logged():
                record = write(claim)
        finally:
            self.drop(claim)
        if record is not None and record.status.is_terminal:
            self._files.discard_task(record.id)
            self._counters.add_end(record.status)
        self._watchers.notify(claim.identifier)
        return record


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Log every error of the body, since none may end the thread that watches over a worker."""
    try:
        yield
    except StorageFailed as error:
        logger.error("the end or the progress of a job could not be recorded: %s", error)
    except Exception:
        logger.exception("the end or the progress of a job could not be recorded")
