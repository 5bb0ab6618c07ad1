"""The table of jobs: which changes it allows, and what it never holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from recall_server.errors import NotFound, StorageFailed
from recall_server.jobs.rows import pages, transitions
from recall_server.jobs.rows import store as store_module
from recall_server.jobs.rows.records import IdempotencyKey, JobError, JobStatus, Progress
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.rows.table import jobs as job_table
from recall_server.jobs.rows.table import keys, request_of, servers
from tests.recall_server.job_examples import record
from tests.suite.needs import needs_postgresql


def queued(store: SqlJobStore, identifier: str = "1", fingerprint: str = "f") -> None:
    assert store.add(record(identifier), fingerprint=fingerprint, limit=9) is not None


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.process, needs_postgresql])])
def store(request: pytest.FixtureRequest) -> Iterator[SqlJobStore]:
    url = "sqlite://"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").schema_url(request.node.nodeid)
    store = SqlJobStore.open(url)
    with store.database.writing() as connection:
        connection.execute(insert(servers).values(id="me", beat=0))
    yield store
    store.close()


def test_only_the_claim_holder_changes_a_job(store: SqlJobStore) -> None:
    queued(store)
    claimed = store.claim("me")
    assert claimed is not None
    claim, taken, _ = claimed
    assert (taken.status, taken.attempt) == (JobStatus.RUNNING, 1)
    assert store.claim("me") is None
    error = JobError(kind="TrainingFailed", detail="x")
    for stranger in (
        claim.__class__(claim.identifier, 2, "me"),
        claim.__class__(claim.identifier, 1, "you"),
        claim.__class__("2", 1, "me"),
    ):
        assert not store.progressed(stranger, Progress(done=1, total=2))
        assert store.failed(stranger, error) is None
        assert store.returned(stranger) is None
        assert store.lost(stranger, "x", attempts=1) is None
    assert store.get("1") == taken
    assert store.returned(claim) is not None
    assert store.failed(claim, error) is None
    assert store.get("1").status is JobStatus.QUEUED


def test_jobs_are_claimed_in_the_order_in_which_they_came(store: SqlJobStore) -> None:
    for identifier in ("b", "a", "c"):
        queued(store, identifier, identifier)
    assert [claimed[0].identifier for _ in range(3) if (claimed := store.claim("me"))] == ["b", "a", "c"]


def test_a_server_with_an_expired_lease_cannot_claim_jobs(store: SqlJobStore) -> None:
    queued(store)
    with store.database.writing() as connection:
        connection.execute(delete(servers))
    assert store.claim("me") is None
    assert store.get("1").status is JobStatus.QUEUED


@pytest.mark.parametrize(
    "values",
    [
        {"status": "succeeded", "finished_at": record().created_at},
        {"status": "failed", "finished_at": record().created_at},
        {"status": "failed", "error_kind": "TrainingFailed"},
        {"status": "running"},
        {"finished_at": record().created_at},
    ],
)
def test_the_table_refuses_an_end_without_a_result_or_an_error(store: SqlJobStore, values: dict[str, Any]) -> None:
    queued(store)
    with pytest.raises(StorageFailed) as refused, store.database.writing() as connection:
        connection.execute(update(job_table).values(**values))
    assert isinstance(refused.value.__cause__, IntegrityError)
    assert store.get("1").status is JobStatus.QUEUED


def test_a_removed_job_loses_its_events_and_its_number_is_not_reused(store: SqlJobStore) -> None:
    queued(store, "1")
    [listed] = store.page(1).entries
    assert store.remove("1")
    assert not store.remove("1")
    with pytest.raises(NotFound, match="no classifier has the id '1'"):
        store.get("1")
    queued(store, "2")
    assert store.records([listed]) == []
    assert store.page(1).entries[0].number > listed.number
    assert [each.number for each in store.events("2", after=0, limit=9)] == [1]


def test_a_page_of_long_records_has_fewer_of_them(store: SqlJobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("1", "2", "3"):
        queued(store, name, name)
    monkeypatch.setattr(pages, "LONGEST_PAGE", len(request_of(record("1"))) * 5 // 2)
    first = store.page(9)
    assert [each.id for each in first.entries] == [each.id for each in store.records(first.entries)] == ["3", "2"]
    assert first.next is not None
    last = store.page(9, before=int(first.next))
    assert ([each.id for each in last.entries], last.next) == (["1"], None)
    monkeypatch.setattr(pages, "LONGEST_PAGE", 0)
    assert len(store.page(9).entries) == 1, "a record is never too long to be read"


def test_every_change_of_a_job_gives_it_another_revision_on_its_page(store: SqlJobStore) -> None:
    queued(store, "1")
    queued(store, "2", "2")
    before = store.page(9).entries
    assert store.cancelled("1")
    after = store.page(9).entries
    assert (after[0], after[1].id) == (before[0], "1")
    assert after[1].revision > before[1].revision


def test_rows_count_towards_the_limit_of_bytes(store: SqlJobStore) -> None:
    for name in ("1", "2", "3"):
        queued(store, name, name)
        store.cancelled(name)
    one = len(request_of(record("1"))) + store_module.ROW_BYTES + 2 * store_module.EVENT_BYTES
    assert store.beyond_size(3 * one, limit=9) == []
    assert store.beyond_size(3 * one - 1, limit=9) == ["1"]
    assert store.beyond_size(0, limit=2) == ["1", "2"]


def test_the_keys_of_one_job_are_bounded(store: SqlJobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "MOST_KEYS", 2)
    for number in range(4):
        key = IdempotencyKey(caller="", text=str(number), request="a")
        submitted = store.add(record("1"), fingerprint="a", limit=9, key=key)
        assert submitted is not None
        assert submitted.record.id == "1"
    with store.database.reading() as connection:
        assert len(connection.execute(select(keys)).all()) == 2
