"""The tables: jobs, their events, idempotency keys, and the servers that share the table."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

from recall_server.jobs.rows.records import ClassifierRecord, Event, FinishedFile, JobError, Progress

SCHEMA_VERSION = 3
STATE_FIELDS = frozenset(
    {"status", "attempt", "progress", "created_at", "started_at", "finished_at", "seconds", "file", "error"}
)


@final
class UtcDateTime(TypeDecorator[datetime]):
    """Times in UTC with their zone. SQLite does not store a zone, so it is added again when a value is read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()

schema = Table(
    "recall_schema",
    metadata,
    Column("version", Integer, nullable=False),
    Column("id", String(32), nullable=False),  # drawn when the tables were made
    Column("folder", String(32), nullable=False),  # the id of the state folder that all servers share; empty at first
)

servers = Table(
    "recall_servers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("beat", BigInteger, nullable=False),
)

LIVE = text("status IN ('queued', 'running', 'succeeded')")

jobs = Table(
    "recall_jobs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("status", String(16), nullable=False, index=True),
    Column("request", Text, nullable=False),  # the part of the record that never changes, as JSON
    Column("fingerprint", String(64), nullable=False),
    Column("owner", String(32)),  # the server whose worker has the job
    Column("starts", Integer, nullable=False, default=0),  # attempts begun; with the owner, it names the valid claim
    Column("losses", Integer, nullable=False, default=0),  # attempts whose worker or server was lost
    Column("events", Integer, nullable=False),  # how many; rises with every change, and so serves as the revision
    Column("progress", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("seconds", Double),
    Column("file_bytes", BigInteger),
    Column("file_sha256", String(64)),
    Column("error_kind", String(64)),
    Column("error_detail", Text),
    Index("recall_jobs_live_fingerprint", "fingerprint", unique=True, sqlite_where=LIVE, postgresql_where=LIVE),
    CheckConstraint("status <> 'running' OR owner IS NOT NULL", name="running_has_an_owner"),
    CheckConstraint("status <> 'succeeded' OR file_sha256 IS NOT NULL", name="succeeded_has_a_file"),
    CheckConstraint("status <> 'failed' OR error_kind IS NOT NULL", name="failed_has_an_error"),
    CheckConstraint("(finished_at IS NULL) = (status IN ('queued', 'running'))", name="terminal_has_an_end"),
    sqlite_autoincrement=True,  # numbers are never reused, so that cursors stay valid
)

events = Table(
    "recall_events",
    metadata,
    Column("job", ForeignKey("recall_jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("progress", Text),
    Column("error", Text),
)

keys = Table(
    "recall_keys",
    metadata,
    Column("digest", String(64), primary_key=True),  # of caller and key, neither of which is stored
    Column("request", String(64), nullable=False),  # digest of the request that the key came with
    Column("job", ForeignKey("recall_jobs.number", ondelete="CASCADE"), nullable=False, index=True),
)


def request_of(record: ClassifierRecord) -> str:
    """The part of a record that never changes."""
    return record.model_dump_json(exclude=set(STATE_FIELDS))


def record_of(row: Row[Any]) -> ClassifierRecord:
    """The record that a row of `jobs` holds."""
    return ClassifierRecord.model_validate(
        json.loads(row.request)
        | {
            "status": row.status,
            "attempt": max(1, row.starts),
            "progress": _progress(row.progress),
            "created_at": row.created_at,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
            "seconds": row.seconds,
            "file": None if row.file_sha256 is None else FinishedFile(bytes=row.file_bytes, sha256=row.file_sha256),
            "error": None if row.error_kind is None else JobError(kind=row.error_kind, detail=row.error_detail),
        }
    )


def event_of(row: Row[Any]) -> Event:
    """The event that a row of `events` holds."""
    return Event(
        number=row.number,
        at=row.at,
        kind=row.kind,
        status=row.status,
        progress=_progress(row.progress),
        error=None if row.error is None else JobError.model_validate_json(row.error),
    )


def _progress(stored: str | None) -> Progress | None:
    return None if stored is None else Progress.model_validate_json(stored)
