"""The database of the job table: which are refused, and what happens when one cannot be written to."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from recall_server.errors import StorageFailed
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.rows.table import SCHEMA_VERSION, schema
from tests.recall_server.job_examples import jobs_with, record, training_task
from tests.recall_server.serving_examples import ManualBackend
from tests.suite.waiting import PATIENCE, eventually


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'jobs.sqlite'}"


def test_a_reopened_table_has_all_its_rows(tmp_path: Path) -> None:
    first = SqlJobStore.open(url(tmp_path / "new" / "folder"))
    assert first.add(record("1"), fingerprint="f", limit=9) is not None
    before = first.get("1")
    first.close()
    again = SqlJobStore.open(url(tmp_path / "new" / "folder"))
    assert again.get("1") == before
    with again.database.reading() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2, "what was accepted is on the disk"
    again.close()


def test_many_processes_may_make_the_same_table_at_once(tmp_path: Path) -> None:
    code = f"from recall_server.jobs.rows.database import Database; Database.open({url(tmp_path)!r}).close()"
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)]
    assert [(process.wait(PATIENCE), process.communicate()[1]) for process in processes] == [(0, b"")] * 3
    store = SqlJobStore.open(url(tmp_path))
    with store.database.reading() as connection:
        assert connection.execute(select(schema.c.version)).all() == [(SCHEMA_VERSION,)]
    store.close()


def test_a_table_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = SqlJobStore.open(url(tmp_path))
    assert store.add(record("1"), fingerprint="f", limit=9) is not None
    with store.database.writing() as connection:
        connection.execute(update(schema).values(version=7))
    store.close()
    before = (tmp_path / "jobs.sqlite").read_bytes()
    with pytest.raises(
        StorageFailed, match=f"of version 7, and this server reads version {SCHEMA_VERSION}: install the server that"
    ):
        SqlJobStore.open(url(tmp_path))
    assert (tmp_path / "jobs.sqlite").read_bytes() == before


def test_a_read_only_table_is_refused(tmp_path: Path) -> None:
    SqlJobStore.open(url(tmp_path)).close()
    with pytest.raises(StorageFailed, match="attempt to write a readonly database"):
        SqlJobStore.open(f"sqlite:///file:{tmp_path}/jobs.sqlite?mode=ro&uri=true")


def test_a_file_that_is_no_table_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_text("my shopping list, which is long enough to be looked at" * 20)
    with pytest.raises(StorageFailed, match="file is not a database"):
        SqlJobStore.open(url(tmp_path))
    assert (tmp_path / "jobs.sqlite").read_text().startswith("my shopping list")


def test_a_file_system_without_locks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"cannot be shared by processes.* not 'wal'.* local disk"):
        SqlJobStore.open(f"sqlite:///file:{tmp_path}/jobs.sqlite?vfs=unix-none&uri=true")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (0, "a lock on its file system keeps nobody out"),
        (errno.ENOLCK, r"its file system has no locks \(No locks available\)"),
    ],
)
def test_a_file_system_with_broken_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    def lock(*_: object) -> None:
        if number:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", lock)
    with pytest.raises(StorageFailed, match=f"{reason}; put it on a local disk, or use PostgreSQL"):
        SqlJobStore.open(url(tmp_path))
    assert {path.suffix for path in tmp_path.iterdir()} <= {".sqlite"}, "the probe is gone"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("jobs.sqlite", "must be a SQLAlchemy URL, such as sqlite:////folder/jobs.sqlite"),
        ("nothing://x/y", "must be a SQLAlchemy URL"),
        ("oracle+oracledb://x/y", "needs a driver that is not installed: oracledb"),
    ],
)
def test_an_invalid_database_url_is_refused_with_a_valid_one(bad: str, reason: str) -> None:
    with pytest.raises(StorageFailed, match=reason):
        SqlJobStore.open(bad)


def test_a_folder_that_cannot_be_created_is_reported_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StorageFailed, match="^the folder of the job table cannot be written: Not a directory$"):
        SqlJobStore.open(url(tmp_path / "state" / "below"))


def test_a_full_disk_refuses_new_jobs_until_there_is_space(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path, lease_seconds=0.5)
    first = jobs.submit(record("first"), training_task()).record
    engine = jobs._store.database._engine
    engine.dispose()

    def fill(connection: Any, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite raises it to what the file has

    event.listen(engine, "connect", fill)
    with pytest.raises(StorageFailed, match="database or disk is full"):
        for index in range(100):
            jobs.submit(record(f"{index}", labels=tuple("x" * 4000)), training_task(seed=index))
    assert jobs.get("first") == first, "what is there can still be read"
    tasks = {path.stem for path in (tmp_path / "tasks").iterdir()}
    assert tasks == {each.id for each in jobs.records(jobs.page(200).entries)}, "what was refused leaves nothing"
    event.remove(engine, "connect", fill)
    engine.dispose()
    assert jobs.submit(record("last"), training_task(seed=999)).created


def test_a_server_with_a_read_only_table_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path, lease_seconds=0.5)

    def full(_: object) -> bool:
        raise StorageFailed("the job table cannot be used: disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("recall_server.jobs.rows.leases.Lease.renew", full)
        eventually(lambda: jobs.room().reason == "storage", "it is noticed")
    eventually(lambda: jobs.room().accepting, "it is over")
