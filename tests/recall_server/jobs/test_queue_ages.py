"""How long jobs have waited."""

from __future__ import annotations

from datetime import timedelta

import pytest

from recall_server.jobs import queue_ages
from recall_server.jobs.queue_ages import QueueAges
from recall_server.jobs.rows.records import now


def test_queue_ages_use_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    moment, today = 5.0, now()
    ages = QueueAges(clock=lambda: moment)
    queued = {"known": today, "found": today - timedelta(seconds=70)}
    monkeypatch.setattr(queue_ages, "now", lambda: today)
    assert ages.update(queued) == {"known": 0.0, "found": 70.0}
    for step in (timedelta(days=400), timedelta(days=-400)):
        monkeypatch.setattr(queue_ages, "now", lambda step=step: today + step)
        moment += 10.0
        seconds = ages.update(queued)
    assert seconds == {"known": 20.0, "found": 90.0}
    assert ages.update({"from the future": today + timedelta(days=1)}) == {"from the future": 0.0}
    ages.remove("from the future")
    assert ages.length == 0
