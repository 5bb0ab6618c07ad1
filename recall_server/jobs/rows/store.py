"""The table of jobs. Every change names the states from which it is allowed, and is a compare-and-set in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Self, final

from sqlalchemy import Connection, delete, func, select

from recall_server.jobs.rows import pages, transitions
from recall_server.jobs.rows.database import Database
from recall_server.jobs.rows.records import (
    OPEN,
    ClassifierRecord,
    Event,
    FinishedFile,
    IdempotencyKey,
    JobError,
    JobStatus,
    Listed,
    Page,
    Progress,
    Submitted,
)
from recall_server.jobs.rows.table import event_of, events, jobs, keys, record_of, schema, servers
from recall_server.jobs.rows.transitions import Claim

RUNNING = (JobStatus.RUNNING,)
ROW_BYTES, EVENT_BYTES = 1000, 200  # of a job and of an event in the table, without the request
MOST_VALUES = 500  # in one SQL statement
GONE = "the server that trained this is gone"


@final
class SqlJobStore:
    """Jobs and their events. Safe to use from several threads and processes. Every method may raise StorageFailed."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(cls, url: str) -> Self:
        """The table at a SQLAlchemy URL, created if it is missing. Raises StorageFailed if it cannot be relied on."""
        return cls(Database.open(url))

    def close(self) -> None:
        self.database.close()

    def add(
        self, record: ClassifierRecord, *, fingerprint: str, limit: int, key: IdempotencyKey | None = None
    ) -> Submitted | None:
        """Queue a job, or find the one that answers the same request. None if `limit` jobs wait already.

        Raises Conflict for a key that came with another request.
        """
        with self.database.writing() as connection:
            _wait_for_turn(connection)  # or two servers could both take the last place
            row = transitions.same_request(connection, fingerprint, key)
            created = row is None
            if row is None:
                if transitions.count(connection, JobStatus.QUEUED) >= limit:
                    return None
                row = transitions.insert_job(connection, record, fingerprint)
            if key is not None:
                transitions.bind_key(connection, key, row)
            return Submitted(record=record_of(row), created=created)

    def keep(
        self, record: ClassifierRecord, file: FinishedFile, *, fingerprint: str, key: IdempotencyKey | None
    ) -> Submitted:
        """Add a classifier that needed no training, or find the one that answers the same request.

        Raises Conflict for a key that came with another request.
        """
        with self.database.writing() as connection:
            _wait_for_turn(connection)
            row = transitions.same_request(connection, fingerprint, key)
            created = row is None
            if row is None:
                row = transitions.insert_job(connection, record, fingerprint)
                end: dict[str, Any] = {"started_at": record.created_at, "seconds": 0.0, "starts": record.attempt}
                end |= {"file_bytes": file.bytes, "file_sha256": file.sha256}
                transitions.move(connection, row, JobStatus.SUCCEEDED, **end)
                row = transitions.found(connection, record.id)
            if key is not None:
                transitions.bind_key(connection, key, row)
            return Submitted(record=record_of(row), created=created)

    def known(self, key: IdempotencyKey) -> ClassifierRecord | None:
        """The job that this key stands for, if it stands for one. Raises Conflict if it came with another request."""
        with self.database.reading() as connection:
            row = transitions.by_key(connection, key)
            return None if row is None else record_of(row)

    def share(self, fingerprint: str, key: IdempotencyKey | None) -> ClassifierRecord | None:
        """The job that answers the same request, if there is one, from now on under this key too. Raises Conflict."""
        with self.database.reading() as connection:
            row = transitions.same_request(connection, fingerprint, key)
            if row is None or key is None:
                return None if row is None else record_of(row)
        with self.database.writing() as connection:
            _wait_for_turn(connection)  # or two requests could both be the first with this key
            row = transitions.same_request(connection, fingerprint, key)
            if row is not None:
                transitions.bind_key(connection, key, row)
            return None if row is None else record_of(row)

    def get(self, identifier: str) -> ClassifierRecord:
        """The record of a job. Raises NotFound."""
        with self.database.reading() as connection:
            return record_of(transitions.found(connection, identifier))

    def page(self, limit: int, *, before: int | None = None) -> Page:
        """At most `limit` jobs from the row below `before` on, newest first; see `pages.page`."""
        with self.database.reading() as connection:
            return pages.page(connection, limit, before)

    def records(self, entries: Iterable[Listed]) -> list[ClassifierRecord]:
        """The records of jobs on pages, newest first, without those that were removed meanwhile."""
        with self.database.reading() as connection:
            return pages.records(connection, entries)

    def events(self, identifier: str, *, after: int, limit: int) -> list[Event]:
        """At most `limit` events of a job with numbers above `after`, in order. Raises NotFound."""
        with self.database.reading() as connection:
            job = transitions.found(connection, identifier).number
            query = select(events).where(events.c.job == job, events.c.number > after)
            return [event_of(row) for row in connection.execute(query.order_by(events.c.number).limit(limit))]

    def revisions(self, identifiers: Collection[str]) -> dict[str, int]:
        """The number of events of those of these jobs that the table knows."""
        with self.database.reading() as connection:
            rows = connection.execute(select(jobs.c.id, jobs.c.events).where(jobs.c.id.in_(identifiers)))
            return {row.id: row.events for row in rows}

    def queued(self) -> dict[str, datetime]:
        """The waiting jobs, each with the time at which it was queued."""
        with self.database.reading() as connection:
            rows = connection.execute(select(jobs.c.id, jobs.c.queued_at).where(jobs.c.status == JobStatus.QUEUED))
            return {row.id: row.queued_at for row in rows}

    def count(self, status: JobStatus) -> int:
        """How many jobs have this status."""
        with self.database.reading() as connection:
            return transitions.count(connection, status)

    def held(self, owner: str) -> set[Claim]:
        """The claims of this server, by the table."""
        query = select(jobs).where(jobs.c.status == JobStatus.RUNNING, jobs.c.owner == owner)
        with self.database.reading() as connection:
            return {Claim(row.id, row.starts, owner) for row in connection.execute(query)}

    def attempts(self, identifiers: Collection[str]) -> dict[str, tuple[JobStatus, int]]:
        """Status and latest attempt (0 before the first) of those of these jobs that the table knows."""
        known: dict[str, tuple[JobStatus, int]] = {}
        with self.database.reading() as connection:
            for some in _batches(identifiers):
                rows = connection.execute(select(jobs.c.id, jobs.c.status, jobs.c.starts).where(jobs.c.id.in_(some)))
                known |= {row.id: (JobStatus(row.status), row.starts) for row in rows}
        return known

    def ended_before(self, moment: datetime, *, limit: int) -> list[str]:
        """At most `limit` jobs that ended before `moment`, the oldest first."""
        query = select(jobs.c.id).where(jobs.c.finished_at < moment).order_by(jobs.c.finished_at, jobs.c.number)
        with self.database.reading() as connection:
            return list(connection.scalars(query.limit(limit)))

    def beyond_size(self, size: int, *, limit: int) -> list[str]:
        """The oldest ended jobs whose removal leaves the others at most `size` bytes; at most `limit` of them.

        The bytes of a job are those of its classifier and, about, those of its row and its events.
        """
        newest = (jobs.c.finished_at.desc(), jobs.c.number.desc())
        rows = func.length(jobs.c.request) + ROW_BYTES + jobs.c.events * EVENT_BYTES
        total = func.sum(func.coalesce(jobs.c.file_bytes, 0) + rows).over(order_by=newest)
        kept = select(jobs.c.id, jobs.c.finished_at, jobs.c.number, total.label("total"))
        ranked = kept.where(jobs.c.finished_at.is_not(None)).subquery()
        query = select(ranked.c.id).where(ranked.c.total > size).order_by(ranked.c.finished_at, ranked.c.number)
        with self.database.reading() as connection:
            return list(connection.scalars(query.limit(limit)))

    def claim(self, owner: str) -> tuple[Claim, ClassifierRecord, float] | None:
        """Claim the job that has waited longest. Returns the claim, the record and the seconds that the job waited.

        None if no job waits, and for a server that others took for dead and removed from the table.
        """
        alive = select(servers.c.id).where(servers.c.id == owner)
        oldest = select(jobs).where(jobs.c.status == JobStatus.QUEUED).order_by(jobs.c.number).limit(1)
        with self.database.reading() as connection:
            if connection.execute(oldest).one_or_none() is None:
                return None
        with self.database.writing() as connection:
            # The lock keeps others from removing this server before its claim is visible. Its heartbeat need not wait.
            if connection.execute(alive.with_for_update(read=True, key_share=True)).one_or_none() is None:
                return None
            row = connection.execute(oldest.with_for_update(skip_locked=True)).one_or_none()
            if row is None:
                return None
            at, attempt = transitions.moment_of(row), row.starts + 1
            begun = {"owner": owner, "starts": attempt, "started_at": at}
            record = transitions.move(connection, row, JobStatus.RUNNING, at=at, **begun)
            waited = (at - row.queued_at).total_seconds()
            return None if record is None else (Claim(row.id, attempt, owner), record, waited)

    def progressed(self, claim: Claim, progress: Progress) -> bool:
        """Record the progress of an attempt. Returns False if the attempt does not count any more."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, claim.identifier, RUNNING, claim)
            return row is not None and bool(transitions.note_progress(connection, row, progress.model_dump_json()))

    def succeeded(
        self, claim: Claim, file: FinishedFile, seconds: float, last: Progress | None = None
    ) -> ClassifierRecord | None:
        """End an attempt that made this file, with its last progress. None if it does not count any more."""
        end: dict[str, Any] = {"seconds": seconds, "file_bytes": file.bytes, "file_sha256": file.sha256}
        with self.database.writing() as connection:
            row = transitions.locked(connection, claim.identifier, RUNNING, claim)
            if row is None:
                return None
            if last is not None:
                transitions.note_progress(connection, row, last.model_dump_json())
                row = transitions.found(connection, claim.identifier)
            return transitions.move(connection, row, JobStatus.SUCCEEDED, **end)

    def failed(self, claim: Claim, error: JobError) -> ClassifierRecord | None:
        """End an attempt and its job without a classifier. None if the attempt does not count any more."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, claim.identifier, RUNNING, claim)
            return None if row is None else transitions.fail(connection, row, error)

    def lost(self, claim: Claim, reason: str, *, attempts: int) -> ClassifierRecord | None:
        """End an attempt whose worker died: the job is queued again, or has failed after so many `attempts`."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, claim.identifier, RUNNING, claim)
            return None if row is None else transitions.lose(connection, row, reason, attempts)

    def returned(self, claim: Claim) -> ClassifierRecord | None:
        """Queue the job of an attempt again, without counting the attempt as lost."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, claim.identifier, RUNNING, claim)
            return None if row is None else transitions.put_back(connection, row)

    def take_over(self, *, attempts: int) -> list[ClassifierRecord]:
        """Do the same as `lost` for all jobs of servers that are not in the table any more."""
        query = select(jobs).where(jobs.c.status == JobStatus.RUNNING, jobs.c.owner.not_in(select(servers.c.id)))
        with self.database.reading() as connection:
            if connection.execute(query.limit(1)).one_or_none() is None:
                return []
        with self.database.writing() as connection:
            rows = connection.execute(query.with_for_update(skip_locked=True)).all()
            moved = [transitions.lose(connection, row, GONE, attempts) for row in rows]
            return [record for record in moved if record is not None]

    def cancelled(self, identifier: str) -> ClassifierRecord | None:
        """Cancel a job. None if it has ended already."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, identifier, OPEN)
            return None if row is None else transitions.move(connection, row, JobStatus.CANCELLED)

    def expired(self, identifier: str, error: JobError) -> ClassifierRecord | None:
        """Fail a job that waits in vain. None if it does not wait any more."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, identifier, (JobStatus.QUEUED,))
            return None if row is None else transitions.fail(connection, row, error)

    def fail_without_file(self, identifier: str, error: JobError) -> None:
        """Fail a job whose classifier's file is gone, and free its keys, so that the next such request is a new one."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, identifier, (JobStatus.SUCCEEDED,))
            if row is not None:
                transitions.fail(connection, row, error, file_bytes=None, file_sha256=None, seconds=None)
                connection.execute(delete(keys).where(keys.c.job == row.number))

    def remove(self, identifier: str) -> bool:
        """Delete a job with its events and keys. Returns False if the table does not know it."""
        with self.database.writing() as connection:
            return connection.execute(delete(jobs).where(jobs.c.id == identifier)).rowcount == 1


def _wait_for_turn(connection: Connection) -> None:
    """Wait for other writers, and keep them waiting until the end of the transaction. SQLite does so by itself."""
    connection.execute(select(schema).with_for_update())


def _batches(identifiers: Collection[str]) -> Iterator[Sequence[str]]:
    every = list(identifiers)
    for start in range(0, len(every), MOST_VALUES):
        yield every[start : start + MOST_VALUES]
