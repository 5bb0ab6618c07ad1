"""The transitions of a job from state to state, each within a transaction that the caller has opened."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, final

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from recall_server.errors import Conflict, NotFound, WorkerLost
from recall_server.jobs.rows.records import OPEN, ClassifierRecord, IdempotencyKey, JobError, JobStatus, now
from recall_server.jobs.rows.table import events, jobs, keys, record_of, request_of

SHARED = (*OPEN, JobStatus.SUCCEEDED)  # the states in which identical requests share a job
MOST_KEYS = 1000  # of one job: nothing but the end of the job removes them


@final
@dataclass(frozen=True)
class Claim:
    """One attempt at a job by one server, whose reports count only as long as the table names this claim."""

    identifier: str
    attempt: int
    owner: str


def by_id(identifier: str) -> Select[Any]:
    return select(jobs).where(jobs.c.id == identifier)


def found(connection: Connection, identifier: str) -> Row[Any]:
    """The job's row. Raises NotFound."""
    row = connection.execute(by_id(identifier)).one_or_none()
    if row is None:
        raise NotFound(f"no classifier has the id {identifier!r}")
    return row


def locked(
    connection: Connection, identifier: str, allowed: Collection[JobStatus], claim: Claim | None = None
) -> Row[Any] | None:
    """The job's row, locked until the end of the transaction. None if its state or its claim is another one."""
    row = connection.execute(by_id(identifier).with_for_update()).one_or_none()
    if row is None or row.status not in allowed:
        return None
    if claim is not None and (row.owner, row.starts) != (claim.owner, claim.attempt):
        return None
    return row


def by_key(connection: Connection, key: IdempotencyKey) -> Row[Any] | None:
    """The job that this key stands for, if it stands for one. Raises Conflict if it came with another request."""
    query = select(jobs, keys.c.request.label("key_request")).join(keys, keys.c.job == jobs.c.number)
    row = connection.execute(query.where(keys.c.digest == key.digest)).one_or_none()
    if row is not None and row.key_request != key.request:
        raise Conflict("this idempotency key came with another request before; take a new key for a new request")
    return row


def by_fingerprint(connection: Connection, fingerprint: str) -> Row[Any] | None:
    """The job of this fingerprint that a request can share: queued, running or succeeded."""
    query = select(jobs).where(jobs.c.fingerprint == fingerprint, jobs.c.status.in_(SHARED))
    return connection.execute(query).one_or_none()


def same_request(connection: Connection, fingerprint: str, key: IdempotencyKey | None) -> Row[Any] | None:
    """The job that the key stands for, or else one of the same fingerprint. Raises Conflict as `by_key`."""
    row = None if key is None else by_key(connection, key)
    return by_fingerprint(connection, fingerprint) if row is None else row


def bind_key(connection: Connection, key: IdempotencyKey, row: Row[Any]) -> None:
    """Let the key stand for this job from now on, unless it stands for one already or the job has MOST_KEYS.

    The same request then finds the job by its fingerprint.
    """
    known = connection.execute(select(keys.c.job).where(keys.c.digest == key.digest)).one_or_none()
    bound = select(func.count()).select_from(keys).where(keys.c.job == row.number)
    if known is None and connection.execute(bound).scalar_one() < MOST_KEYS:
        connection.execute(insert(keys).values(digest=key.digest, request=key.request, job=row.number))


def insert_job(connection: Connection, record: ClassifierRecord, fingerprint: str) -> Row[Any]:
    """Add a queued job with its first event."""
    connection.execute(
        insert(jobs).values(
            id=record.id,
            status=JobStatus.QUEUED,
            request=request_of(record),
            fingerprint=fingerprint,
            events=1,
            created_at=record.created_at,
            queued_at=record.created_at,
        )
    )
    row = found(connection, record.id)
    _note(connection, row, kind="status", at=record.created_at)
    return row


def move(
    connection: Connection, row: Row[Any], status: JobStatus, *, at: datetime | None = None, **values: Any
) -> ClassifierRecord | None:
    """Set another status, unless the job has changed since `row` was read: then None."""
    at = at or moment_of(row)
    end = {"finished_at": at, "owner": None} if status.is_terminal else {}
    return _apply(connection, row, {"status": status} | end | values, at=at)


def note_progress(connection: Connection, row: Row[Any], progress: str) -> ClassifierRecord | None:
    """Record progress, in the same way as `move`."""
    return _apply(connection, row, {"progress": progress}, at=moment_of(row), kind="progress")


def put_back(
    connection: Connection, row: Row[Any], error: JobError | None = None, **values: Any
) -> ClassifierRecord | None:
    """Queue the job again, in the same way as `move`. The event carries the error of the attempt."""
    at = moment_of(row)
    fresh = {"status": JobStatus.QUEUED, "queued_at": at, "owner": None, "progress": None, "started_at": None}
    return _apply(connection, row, fresh | values, at=at, error=error)


def fail(connection: Connection, row: Row[Any], error: JobError, **values: Any) -> ClassifierRecord | None:
    """End the job without a classifier, in the same way as `move`."""
    return move(connection, row, JobStatus.FAILED, error_kind=error.kind, error_detail=error.detail, **values)


def lose(connection: Connection, row: Row[Any], reason: str, attempts: int) -> ClassifierRecord | None:
    """Queue a job again whose worker is gone, or fail it after so many `attempts`."""
    losses = row.losses + 1
    error = JobError(kind=WorkerLost.__name__, detail=f"attempt {losses} of {attempts} was lost: {reason}")
    return (fail if losses >= attempts else put_back)(connection, row, error, losses=losses)


def moment_of(row: Row[Any]) -> datetime:
    """The time now, but not before any time in the row, since the clock may have been set back."""
    known = (row.created_at, row.queued_at, row.started_at, row.finished_at)
    moment: datetime = max(now(), *(at for at in known if at is not None))
    return moment


def count(connection: Connection, status: JobStatus) -> int:
    return connection.execute(select(func.count()).select_from(jobs).where(jobs.c.status == status)).scalar_one()


def _apply(
    connection: Connection,
    row: Row[Any],
    values: dict[str, Any],
    *,
    at: datetime,
    kind: str = "status",
    error: JobError | None = None,
) -> ClassifierRecord | None:
    unchanged = (jobs.c.number == row.number, jobs.c.status == row.status, jobs.c.events == row.events)
    if connection.execute(update(jobs).where(*unchanged).values(events=row.events + 1, **values)).rowcount != 1:
        return None
    changed = found(connection, row.id)
    _note(connection, changed, kind=kind, at=at, error=error)
    return record_of(changed)


def _note(connection: Connection, row: Row[Any], *, kind: str, at: datetime, error: JobError | None = None) -> None:
    """Add an event that describes the row as it is now."""
    if row.error_kind is not None:
        error = JobError(kind=row.error_kind, detail=row.error_detail)
    connection.execute(
        insert(events).values(
            job=row.number,
            number=row.events,
            at=at,
            kind=kind,
            status=row.status,
            progress=row.progress if kind == "progress" else None,
            error=None if error is None else error.model_dump_json(),
        )
    )
