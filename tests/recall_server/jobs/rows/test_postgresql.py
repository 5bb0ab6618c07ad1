"""A job table on PostgreSQL: no wait is for ever, and folders that are not shared are refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import text

from benchmarks.postgres_server import PostgresServer
from recall_server.errors import StorageBusy, StorageFailed
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.rows.database import Database
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.identity import bind_folder, table_id
from recall_server.jobs.rows.records import JobStatus
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.training_jobs import TrainingJobs
from tests.recall_server.job_examples import record, training_task
from tests.recall_server.serving_examples import ManualBackend
from tests.suite.delay import delayed
from tests.suite.needs import needs_postgresql

pytestmark = [pytest.mark.process, needs_postgresql]

LIMIT = 2  # seconds that an answer may take


def bounded(server: PostgresServer, name: str) -> Database:
    return Database.open(f"{server.schema_url(name)}&connect_timeout={LIMIT}")


def assert_answers(database: Database) -> None:
    with database.reading() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    database.close()


def test_a_database_that_accepts_and_never_answers_ends_every_wait(own_postgres: PostgresServer) -> None:
    database = bounded(own_postgres, "frozen")
    own_postgres.freeze()
    for transaction in (database.reading, database.writing, database.reading):
        began = time.monotonic()
        with pytest.raises(StorageBusy, match="does not answer") as caught, transaction() as connection:
            connection.execute(text("SELECT 1"))
        assert caught.value.retry_after > 0
        assert time.monotonic() - began < 10 * LIMIT
    own_postgres.thaw()
    assert_answers(database)


def test_a_database_that_comes_back_is_used_again(own_postgres: PostgresServer) -> None:
    database = bounded(own_postgres, "restarted")
    own_postgres.stop()
    with pytest.raises(StorageBusy), database.reading() as connection:
        connection.execute(text("SELECT 1"))
    own_postgres.start()
    assert_answers(database)


def test_a_slow_statement_is_given_up_as_well(postgres: PostgresServer) -> None:
    database = bounded(postgres, "slow")
    with pytest.raises(StorageBusy), database.reading() as connection:
        connection.execute(text(f"SELECT pg_sleep({20 * LIMIT})"))
    database.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("127.0.0.1:{port}", "127.0.0.1:1"), "Connection refused"),
        (("/postgres?", "/nothing?"), 'database "nothing" does not exist'),
        (("tests@", "nobody@"), 'role "nobody" does not exist'),
    ],
)
def test_a_refused_connection_is_named_at_the_start(
    postgres: PostgresServer, change: tuple[str, str], reason: str
) -> None:
    good = f"{postgres.url}?connect_timeout={LIMIT}"
    bad = good.replace(change[0].format(port=postgres.port), change[1])
    assert bad != good
    with pytest.raises(StorageFailed, match=reason):
        Database.open(bad)


def test_a_state_folder_that_is_not_shared_is_refused(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.schema_url("folders")
    for name, refused in (("one", False), ("one", False), ("other", True)):
        database, files = Database.open(url), ClassifierFiles(tmp_path / name)
        files.prepare(table_id(database))
        if refused:
            with pytest.raises(StorageFailed, match="another state folder"):
                bind_folder(database, files.identity)
        else:
            bind_folder(database, files.identity)
        database.close()


def test_a_database_far_away_delays_a_training_and_loses_none(postgres: PostgresServer, tmp_path: Path) -> None:
    near = postgres.schema_url("far")
    Database.open(near).close()
    with delayed(postgres.port, 0.01) as port:
        store = SqlJobStore.open(near.replace(f":{postgres.port}/", f":{port}/"))
        backend = ManualBackend()
        jobs = TrainingJobs(store, ClassifierFiles(tmp_path), backend, JobLimits(lease_seconds=1.0))
        jobs.open()
        jobs.start()
        jobs.submit(record("far"), training_task())
        backend.perform()
        jobs.stop()
        done = jobs.get("far")
        store.close()
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
