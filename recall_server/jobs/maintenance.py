"""What has to be done again and again so that every job ends: heartbeats, take-overs, deadlines, expiry, repairs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import final

from recall_server.errors import QueueExpired, StorageFailed
from recall_server.jobs.claimed_jobs import ClaimedJobs
from recall_server.jobs.counters import JobCounters
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.queue_ages import QueueAges
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.leases import BEATS, Lease
from recall_server.jobs.rows.records import ClassifierRecord, JobError, JobStatus, now
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.rows.transitions import Claim
from recall_server.jobs.watchers import Watchers
from recall_server.jobs.workers.backend import Backend

SECONDS_BETWEEN_LOOKS = 0.25  # at jobs that somebody waits for and another server trains
SECONDS_BETWEEN_CHECKS = 1.0
SECONDS_BETWEEN_CLEANINGS = 60.0
CLEANED_AT_ONCE = 50  # for the heartbeat, on the same thread, has to wait
UNRECORDED = "its end could not be recorded"

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Chore:
    work: Callable[[], None]
    seconds: float
    due: float = 0.0


@final
class Maintenance:
    """A thread with its chores. Each of them is harmless to repeat, and to do on several servers at once."""

    def __init__(
        self,
        store: SqlJobStore,
        files: ClassifierFiles,
        backend: Backend,
        limits: JobLimits,
        *,
        lease: Lease,
        assignments: ClaimedJobs,
        queue: QueueAges,
        tally: JobCounters,
        watchers: Watchers,
    ) -> None:
        self._store, self._files, self._backend, self._limits = store, files, backend, limits
        self._lease, self._assignments, self._queue = lease, assignments, queue
        self._tally, self._watchers = tally, watchers
        self._unheld: set[Claim] = set()
        self._cleaning = _Chore(self.clean, SECONDS_BETWEEN_CLEANINGS)
        self._chores = [
            _Chore(self.heartbeat, limits.lease_seconds / BEATS),
            _Chore(self.look, SECONDS_BETWEEN_LOOKS),
            _Chore(self.check, SECONDS_BETWEEN_CHECKS),
            self._cleaning,
        ]
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.storage_failed = False

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def heartbeat(self) -> None:
        """Show that this server lives, and take over the jobs of those that do not."""
        if not self._lease.renew():
            logger.error("this server was taken for dead and its jobs were given to others")
            lost = self._assignments.held
            self._lease.acquire()
            for hold in lost:
                self._give_up(hold)
        self._lease.expire_leases()
        for record in self._store.take_over(attempts=self._limits.attempts):
            logger.warning("the server that trained classifier %s is gone: it is %s", record.id, record.status)
            self._ended(record)

    def look(self) -> None:
        """Tell those who wait for a job what other servers did to it."""
        waited_for = self._watchers.identifiers
        if waited_for:
            self._watchers.compare(self._store.revisions(waited_for))

    def check(self) -> None:
        """End jobs that waited too long, and put right what table and backend disagree on."""
        for identifier, seconds in self._queue.look(self._store.queued()).items():
            if seconds > self._limits.queue_seconds:
                detail = f"it waited longer than {self._limits.queue_seconds:g} seconds to be trained"
                expired = self._store.expired(identifier, JobError(kind=QueueExpired.__name__, detail=detail))
                if expired is not None:
                    self._queue.left(identifier)
                    self._ended(expired)
        before = self._assignments.held
        in_table = self._store.held(self._lease.owner)
        for hold in before - in_table:  # cancelled, or taken over, by another server
            self._give_up(hold)
        unheld = in_table - self._assignments.held
        for hold in unheld & self._unheld:  # twice in a row, for a job is in the table a moment before it is here
            record = self._store.lost(hold, UNRECORDED, attempts=self._limits.attempts)
            if record is not None:
                self._ended(record)
        self._unheld = unheld

    def clean(self) -> None:
        """Remove what is too old, or too much, a little at a time, and then what crashes left behind."""
        removed = sum(self._remove(identifier) for identifier in self._expired())
        if removed == CLEANED_AT_ONCE:  # there may be more
            self._cleaning.due = time.monotonic() + SECONDS_BETWEEN_CHECKS
        else:
            self._files.tidy(self._store.attempts)

    def _expired(self) -> list[str]:
        """Some of the jobs that are too old, or too much."""
        expired: list[str] = []
        if self._limits.keep_seconds is not None:
            moment = now() - timedelta(seconds=self._limits.keep_seconds)
            expired = self._store.ended_before(moment, limit=CLEANED_AT_ONCE)
        if self._limits.keep_bytes is not None:
            expired += self._store.beyond(self._limits.keep_bytes, limit=CLEANED_AT_ONCE - len(expired))
        return expired

    def _remove(self, identifier: str) -> bool:
        try:
            self._files.remove(identifier)
        except StorageFailed as error:
            logger.error("an expired classifier stays: %s", error)
            return False
        self._store.remove(identifier)
        self._watchers.tell(identifier)
        return True

    def _give_up(self, hold: Claim) -> None:
        if self._assignments.drop(hold):  # or it has ended meanwhile, and another attempt at the job may be under way
            self._backend.cancel(hold.identifier)

    def _ended(self, record: ClassifierRecord) -> None:
        if record.status is JobStatus.QUEUED:
            self._tally.retried()
            self._backend.wake()
        else:
            self._tally.ended(record.status)
            self._files.discard_task(record.id)
        self._watchers.tell(record.id)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for chore in self._chores:
                if time.monotonic() >= chore.due:
                    self._do(chore)
            self._stopping.wait(max(0.0, min(chore.due for chore in self._chores) - time.monotonic()))

    def _do(self, chore: _Chore) -> None:
        chore.due = time.monotonic() + chore.seconds
        try:
            chore.work()
        except StorageFailed:  # which is in the log; the next time may go better
            self.storage_failed = True
        except Exception:
            logger.exception("upkeep failed")
        else:
            if chore.work == self.heartbeat:  # the one that always writes
                self.storage_failed = False
