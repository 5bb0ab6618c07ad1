"""Leases: which servers count as alive."""

from __future__ import annotations

from pathlib import Path

from recall_server.jobs.rows.leases import Lease
from recall_server.jobs.rows.store import SqlJobStore
from tests.recall_server.job_examples import database


def test_a_lease_expires_by_the_observers_clock_after_the_last_heartbeat(tmp_path: Path) -> None:
    store = SqlJobStore.open(database(tmp_path))
    moment = 1000.0
    observed, observer = Lease(store.database, 15.0), Lease(store.database, 15.0, clock=lambda: moment)
    observed.acquire()
    observer.acquire()
    assert observer.expire_leases() == 0
    moment += 14.0
    assert observed.renew()
    assert observer.expire_leases() == 0
    moment += 14.0
    assert observer.expire_leases() == 0
    moment += 1.0
    assert observer.expire_leases() == 1
    assert observer.expire_leases() == 0
    assert not observed.renew()
    assert observer.renew()
    store.close()
