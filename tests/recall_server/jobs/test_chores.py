"""Threads of chores: they end when they are told to, or are left after a while."""

from __future__ import annotations

import threading

import pytest

from recall_server.jobs import chores
from recall_server.jobs.chores import Chore, ChoreThread
from tests.suite.waiting import assert_ends_soon


def test_stopping_does_not_wait_for_a_chore_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "SECONDS_TO_STOP", 0.1)
    working, release = threading.Event(), threading.Event()

    def work() -> None:
        working.set()
        release.wait(60)

    thread = ChoreThread("endless", [Chore(work, 1.0)], lambda: None)
    thread.start()
    try:
        assert working.wait(60)
        assert_ends_soon(thread.finish_stop)
    finally:
        release.set()
