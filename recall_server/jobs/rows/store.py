"""The table of jobs. Every change names the states it may start from, and is compared and set in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Self, final

from sqlalchemy import Connection, delete, func, select

from recall_server.jobs.rows import transitions
from recall_server.jobs.rows.database import Database
from recall_server.jobs.rows.records import (
    OPEN,
    ClassifierRecord,
    Event,
    FinishedFile,
    IdempotencyKey,
    JobError,
    JobStatus,
    Progress,
    Submitted,
)
from recall_server.jobs.rows.table import event_of, events, jobs, keys, record_of, schema, servers
from recall_server.jobs.rows.transitions import Claim

RUNNING = (JobStatus.RUNNING,)
MOST_VALUES = 500  # in one statement
GONE = "the server that trained this is gone"


@final
class SqlJobStore:
    """Jobs and their events. Safe to use from several threads and processes; every method raises StorageFailed."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(cls, url: str) -> Self:
        """The table at a SQLAlchemy URL, made if need be; raises StorageFailed where it cannot be relied on."""
        return cls(Database.open(url))

    def close(self) -> None:
        self.database.close()

    @property
    def table_id(self) -> str:
        """What tells this table from every other one."""
        with self.database.reading() as connection:
            return connection.execute(select(schema.c.id)).scalar_one()

    def add(
        self, record: ClassifierRecord, *, fingerprint: str, limit: int, key: IdempotencyKey | None = None
    ) -> Submitted | None:
        """Queue a job, or find the one that answers the same request; None where `limit` jobs wait already.

        Raises Conflict for a key that came with another request before.
        """
        with self.database.writing() as connection:
            _wait_for_turn(connection)  # or two could both be the last
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
        """Enter a classifier that needed no training, or find the one that answers the same request.

        Raises Conflict for a key that came with another request before.
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
        """The job that answers the same request, if there is one, now known by this key too. Raises Conflict."""
        with self.database.reading() as connection:
            row = transitions.same_request(connection, fingerprint, key)
            if row is None or key is None:
                return None if row is None else record_of(row)
        with self.database.writing() as connection:
            _wait_for_turn(connection)  # or two could both be the first with this key
            row = transitions.same_request(connection, fingerprint, key)
            if row is not None:
                transitions.bind_key(connection, key, row)
            return None if row is None else record_of(row)

    def get(self, identifier: str) -> ClassifierRecord:
        """The record; raises NotFound."""
        with self.database.reading() as connection:
            return record_of(transitions.found(connection, identifier))

    def page(self, limit: int, *, before: int | None = None) -> list[tuple[int, ClassifierRecord]]:
        """At most `limit` records with their numbers in the table, newest first, of those numbered below `before`."""
        query = select(jobs).order_by(jobs.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(jobs.c.number < before)
        with self.database.reading() as connection:
            return [(row.number, record_of(row)) for row in connection.execute(query)]

    def events(self, identifier: str, *, after: int, limit: int) -> list[Event]:
        """At most `limit` events with numbers above `after`, in their order; raises NotFound."""
        with self.database.reading() as connection:
            job = transitions.found(connection, identifier).number
            query = select(events).where(events.c.job == job, events.c.number > after)
            return [event_of(row) for row in connection.execute(query.order_by(events.c.number).limit(limit))]

    def revisions(self, identifiers: Collection[str]) -> dict[str, int]:
        """How many events each of these jobs has; those that are gone are missing."""
        with self.database.reading() as connection:
            rows = connection.execute(select(jobs.c.id, jobs.c.events).where(jobs.c.id.in_(identifiers)))
            return {row.id: row.events for row in rows}

    def queued(self) -> dict[str, datetime]:
        """When each job that waits began to."""
        with self.database.reading() as connection:
            rows = connection.execute(select(jobs.c.id, jobs.c.queued_at).where(jobs.c.status == JobStatus.QUEUED))
            return {row.id: row.queued_at for row in rows}

    def count(self, status: JobStatus) -> int:
        with self.database.reading() as connection:
            return transitions.count(connection, status)

    def held(self, owner: str) -> set[Claim]:
        """What the table says this server works on."""
        query = select(jobs).where(jobs.c.status == JobStatus.RUNNING, jobs.c.owner == owner)
        with self.database.reading() as connection:
            return {Claim(row.id, row.starts, owner) for row in connection.execute(query)}

    def attempts(self, identifiers: Collection[str]) -> dict[str, tuple[JobStatus, int]]:
        """Status and latest attempt of each of these jobs, 0 before the first; those that are gone are missing."""
        known: dict[str, tuple[JobStatus, int]] = {}
        with self.database.reading() as connection:
            for some in _batches(identifiers):
                rows = connection.execute(select(jobs.c.id, jobs.c.status, jobs.c.starts).where(jobs.c.id.in_(some)))
                known |= {row.id: (JobStatus(row.status), row.starts) for row in rows}
        return known

    def ended_before(self, moment: datetime, *, limit: int) -> list[str]:
        """At most `limit` jobs that reached their end before then, the oldest first."""
        query = select(jobs.c.id).where(jobs.c.finished_at < moment).order_by(jobs.c.finished_at, jobs.c.number)
        with self.database.reading() as connection:
            return list(connection.scalars(query.limit(limit)))

    def beyond(self, size: int, *, limit: int) -> list[str]:
        """The classifiers to remove for the rest to have no more than so many bytes: the `limit` oldest of them."""
        newest = (jobs.c.finished_at.desc(), jobs.c.number.desc())
        total = func.sum(jobs.c.file_bytes).over(order_by=newest)
        kept = select(jobs.c.id, jobs.c.finished_at, jobs.c.number, total.label("total"))
        ranked = kept.where(jobs.c.status == JobStatus.SUCCEEDED).subquery()
        query = select(ranked.c.id).where(ranked.c.total > size).order_by(ranked.c.finished_at, ranked.c.number)
        with self.database.reading() as connection:
            return list(connection.scalars(query.limit(limit)))

    def claim(self, owner: str) -> tuple[Claim, ClassifierRecord, float] | None:
        """The job that waits longest, from now on this server's, and the seconds that it waited; None for none.

        None, too, for a server that is not in the table any more, because the others took it for dead.
        """
        alive = select(servers.c.id).where(servers.c.id == owner)
        oldest = select(jobs).where(jobs.c.status == JobStatus.QUEUED).order_by(jobs.c.number).limit(1)
        with self.database.reading() as connection:
            if connection.execute(oldest).one_or_none() is None:
                return None
        with self.database.writing() as connection:
            # Kept from being buried until the claim is seen; its heartbeat, which changes no key, need not wait.
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
        """Note the progress of an attempt; False where it does not count any more."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, claim.identifier, RUNNING, claim)
            return row is not None and bool(transitions.note_progress(connection, row, progress.model_dump_json()))

    def succeeded(self, claim: Claim, file: FinishedFile, seconds: float) -> ClassifierRecord | None:
        """The attempt made this file; None where it does not count any more."""
        end: dict[str, Any] = {"seconds": seconds, "file_bytes": file.bytes, "file_sha256": file.sha256}
        with self.database.writing() as connection:
            row = transitions.locked(connection, claim.identifier, RUNNING, claim)
            return None if row is None else transitions.move(connection, row, JobStatus.SUCCEEDED, **end)

    def failed(self, claim: Claim, error: JobError) -> ClassifierRecord | None:
        """The attempt came to nothing, as another one would; None where it does not count any more."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, claim.identifier, RUNNING, claim)
            return None if row is None else transitions.fail(connection, row, error)

    def lost(self, claim: Claim, reason: str, *, attempts: int) -> ClassifierRecord | None:
        """The attempt's worker died: back in the queue, or failed with WorkerLost after so many `attempts`."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, claim.identifier, RUNNING, claim)
            return None if row is None else transitions.lose(connection, row, reason, attempts)

    def returned(self, claim: Claim) -> ClassifierRecord | None:
        """Back in the queue, none the worse for it."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, claim.identifier, RUNNING, claim)
            return None if row is None else transitions.put_back(connection, row)

    def take_over(self, *, attempts: int) -> list[ClassifierRecord]:
        """`lost`, for the jobs of servers that are not in the table any more."""
        query = select(jobs).where(jobs.c.status == JobStatus.RUNNING, jobs.c.owner.not_in(select(servers.c.id)))
        with self.database.reading() as connection:
            if connection.execute(query.limit(1)).one_or_none() is None:
                return []
        with self.database.writing() as connection:
            rows = connection.execute(query.with_for_update(skip_locked=True)).all()
            moved = [transitions.lose(connection, row, GONE, attempts) for row in rows]
            return [record for record in moved if record is not None]

    def cancelled(self, identifier: str) -> ClassifierRecord | None:
        """Nobody wants it any more; None where it has ended already."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, identifier, OPEN)
            return None if row is None else transitions.move(connection, row, JobStatus.CANCELLED)

    def expired(self, identifier: str, error: JobError) -> ClassifierRecord | None:
        """It waited too long; None where it does not wait any more."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, identifier, (JobStatus.QUEUED,))
            return None if row is None else transitions.fail(connection, row, error)

    def file_gone(self, identifier: str, error: JobError) -> None:
        """A classifier whose file is gone has failed after all; the next request like it is a new one."""
        with self.database.writing() as connection:
            row = transitions.locked(connection, identifier, (JobStatus.SUCCEEDED,))
            if row is not None:
                transitions.fail(connection, row, error, file_bytes=None, file_sha256=None, seconds=None)
                connection.execute(delete(keys).where(keys.c.job == row.number))

    def remove(self, identifier: str) -> bool:
        """Take the job out of the table, with its events and keys; False where it is not in there."""
        with self.database.writing() as connection:
            return connection.execute(delete(jobs).where(jobs.c.id == identifier)).rowcount == 1


def _wait_for_turn(connection: Connection) -> None:
    """One at a time until the end of the transaction, as on SQLite in any case."""
    connection.execute(select(schema).with_for_update())


def _batches(identifiers: Collection[str]) -> Iterator[Sequence[str]]:
    every = list(identifiers)
    for start in range(0, len(every), MOST_VALUES):
        yield every[start : start + MOST_VALUES]
