"""What is repeated so that every job ends: heartbeats, take-overs, deadlines, expiry, repairs."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import final

from recall_server.errors import QueueExpired, StorageFailed, WorkerLost
from recall_server.jobs.cautious_clock import CautiousClock
from recall_server.jobs.chores import Chore, ChoreThread
from recall_server.jobs.claimed_jobs import ClaimedJobs
from recall_server.jobs.counters import JobCounters
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.queue_ages import QueueAges
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.leases import BEATS, Lease
from recall_server.jobs.rows.records import ClassifierRecord, JobError, JobStatus
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.rows.transitions import Claim
from recall_server.jobs.watchers import Watchers
from recall_server.jobs.workers.backend import Backend

SECONDS_BETWEEN_LOOKS = 0.25  # at the jobs that callers wait for, which other servers may train
SECONDS_BETWEEN_CHECKS = 1.0
SECONDS_BETWEEN_CLEANINGS = 60.0
SECONDS_TO_BELIEVE_A_CLOCK = 3600.0  # before anything is removed for its age
CLEANED_AT_ONCE = 50  # the other chores wait meanwhile
UNRECORDED = "its end could not be recorded"

logger = logging.getLogger(__name__)


@final
class Maintenance:
    """Two threads: one for the heartbeat alone, so that nothing delays it, and one for everything else.

    Each chore is harmless to repeat, and harmless to do on several servers at once. `storage_failed` says whether the
    table could not be written to when that was last tried.
    """

    def __init__(
        self,
        store: SqlJobStore,
        files: ClassifierFiles,
        backend: Backend,
        limits: JobLimits,
        *,
        lease: Lease,
        claimed: ClaimedJobs,
        queue: QueueAges,
        counters: JobCounters,
        watchers: Watchers,
    ) -> None:
        self._store, self._files, self._backend, self._limits = store, files, backend, limits
        self._lease, self._claimed, self._queue = lease, claimed, queue
        self._counters, self._watchers = counters, watchers
        self._unheld: set[Claim] = set()
        self._clock = CautiousClock(min(SECONDS_TO_BELIEVE_A_CLOCK, limits.keep_seconds or 0.0))
        self.storage_failed = False
        beat = limits.lease_seconds / BEATS
        self._cleaning = Chore(self.clean, SECONDS_BETWEEN_CLEANINGS)
        chores = [
            Chore(self.take_over, beat),
            Chore(self.look, SECONDS_BETWEEN_LOOKS),
            Chore(self.check, SECONDS_BETWEEN_CHECKS),
            self._cleaning,
        ]
        self._threads = [
            ChoreThread("heartbeat", [Chore(self.heartbeat, beat)], self._storage_has_failed),
            ChoreThread("maintenance", chores, self._storage_has_failed),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Return once no chore is under way."""
        for thread in self._threads:
            thread.begin_stop()
        for thread in self._threads:
            thread.finish_stop()

    def heartbeat(self) -> None:
        """Show that this server lives and can write. If others took it for dead, join anew and give up its jobs."""
        if not self._lease.renew():
            logger.error("this server was taken for dead and its jobs were given to others")
            lost = self._claimed.held
            self._lease.acquire()
            for claim in lost:
                self._give_up(claim)
        self.storage_failed = not self._files.can_be_written()

    def take_over(self) -> None:
        """Put the jobs of servers that have been silent for a lease back into the queue."""
        self._lease.expire_leases()
        for record in self._store.take_over(attempts=self._limits.attempts):
            logger.warning("the server that trained classifier %s is gone: it is %s", record.id, record.status)
            self._ended(record)

    def look(self) -> None:
        """Tell those who wait for a job what other servers did to it."""
        waited_for = self._watchers.identifiers
        if waited_for:
            self._watchers.notify_changed(self._store.revisions(waited_for))

    def check(self) -> None:
        """End jobs that wait too long or in vain, and repair what the table and this server disagree on."""
        self._expire_queued()
        self._reconcile()

    def _expire_queued(self) -> None:
        fault = self._fault_of_all_workers()
        for identifier, seconds in self._queue.update(self._store.queued()).items():
            if fault is not None:
                error = JobError(kind=WorkerLost.__name__, detail=f"no training process can be started: {fault}")
            elif seconds > self._limits.queue_seconds:
                detail = f"it waited longer than {self._limits.queue_seconds:g} seconds to be trained"
                error = JobError(kind=QueueExpired.__name__, detail=detail)
            else:
                continue
            expired = self._store.expired(identifier, error)
            if expired is not None:
                self._queue.remove(identifier)
                self._ended(expired)

    def _fault_of_all_workers(self) -> str | None:
        """Why nobody is going to train what waits; None if this server or another may."""
        faults = [worker.fault for worker in self._backend.workers]
        hopeless = None not in faults and not self._claimed.closed and self._lease.is_only()
        return faults[0] if hopeless else None

    def _reconcile(self) -> None:
        before = self._claimed.held
        in_table = self._store.held(self._lease.owner)
        for claim in before - in_table:  # cancelled or taken over by another server
            self._give_up(claim)
        unheld = in_table - self._claimed.held
        # Two sightings in a row are needed: the row is written a moment before the claim is registered here.
        for claim in unheld & self._unheld:
            record = self._store.lost(claim, UNRECORDED, attempts=self._limits.attempts)
            if record is not None:
                self._ended(record)
        self._unheld = unheld

    def clean(self) -> None:
        """Remove classifiers beyond the limits of age and size, some at a time, and then what crashes left behind."""
        removed = sum(self._remove(identifier) for identifier in self._expired())
        if removed == CLEANED_AT_ONCE:  # there may be more
            self._cleaning.due = time.monotonic() + SECONDS_BETWEEN_CHECKS
        else:
            self._files.tidy(self._store.attempts)

    def _expired(self) -> list[str]:
        """At most CLEANED_AT_ONCE jobs that are too old, or whose classifiers are beyond the limit of size."""
        expired: list[str] = []
        moment = self._clock.look()
        if self._limits.keep_seconds is not None and moment is not None:
            ended = moment - timedelta(seconds=self._limits.keep_seconds)
            expired = self._store.ended_before(ended, limit=CLEANED_AT_ONCE)
        if self._limits.keep_bytes is not None:
            expired += self._store.beyond_size(self._limits.keep_bytes, limit=CLEANED_AT_ONCE - len(expired))
        return expired

    def _remove(self, identifier: str) -> bool:
        try:
            self._files.remove(identifier)
        except StorageFailed as error:
            logger.error("an expired classifier could not be removed: %s", error)
            return False
        self._store.remove(identifier)
        self._watchers.notify(identifier)
        return True

    def _give_up(self, claim: Claim) -> None:
        if self._claimed.drop(claim):  # if not, it has ended, and another attempt at the job may be under way
            self._backend.cancel(claim.identifier)

    def _ended(self, record: ClassifierRecord) -> None:
        if record.status is JobStatus.QUEUED:
            self._counters.add_retry()
            self._backend.wake()
        else:
            self._counters.add_end(record.status)
            self._files.discard_task(record.id)
        self._watchers.notify(record.id)

    def _storage_has_failed(self) -> None:
        self.storage_failed = True
