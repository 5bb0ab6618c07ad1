"""A time of day is believed once a clock has shown it for a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from recall_server.jobs.cautious_clock import CautiousClock

START = datetime(2026, 11, 29, tzinfo=UTC)
HOUR, MINUTE = 3600.0, 60.0


class Clocks:
    """A day clock that may be wrong, and one that measures what has passed."""

    def __init__(self) -> None:
        self.passed, self.wrong = 0.0, timedelta()

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.passed) + self.wrong

    def watched(self, seconds: float) -> CautiousClock:
        return CautiousClock(seconds, self.wall, lambda: self.passed)

    def pass_minutes(self, clock: CautiousClock, count: int) -> datetime | None:
        seen = None
        for _ in range(count):
            self.passed += MINUTE
            seen = clock.look()
        return seen


@pytest.mark.parametrize("days", [400, 1, 1e-2, -400])
def test_a_jump_of_the_clock_is_not_trusted_at_once(days: float) -> None:
    clocks = Clocks()
    clock = clocks.watched(HOUR)
    assert clocks.pass_minutes(clock, 60) is None
    clocks.pass_minutes(clock, 30)
    clocks.wrong = timedelta(days=days)
    during = clocks.pass_minutes(clock, 1)
    clocks.wrong = timedelta()
    after = clocks.pass_minutes(clock, 200)
    assert during is not None and during <= START + timedelta(seconds=clocks.passed)
    assert after == START + timedelta(seconds=clocks.passed - HOUR)


def test_a_server_started_with_a_wrong_clock_trusts_nothing() -> None:
    clocks = Clocks()
    clocks.wrong = timedelta(days=400)
    clock = clocks.watched(HOUR)
    assert clocks.pass_minutes(clock, 5) is None
    clocks.wrong = timedelta()
    seen = clocks.pass_minutes(clock, 90)
    assert seen is not None and seen < START + timedelta(days=1)


def test_a_clock_that_stays_ahead_is_trusted_after_the_delay() -> None:
    clocks = Clocks()
    clock = clocks.watched(HOUR)
    clocks.pass_minutes(clock, 70)
    clocks.wrong = timedelta(days=400)
    before = clocks.pass_minutes(clock, 59)
    after = clocks.pass_minutes(clock, 3)
    assert before is not None and before < START + timedelta(days=1)
    assert after is not None and after > START + timedelta(days=399)


def test_only_few_readings_are_kept() -> None:
    clocks = Clocks()
    clock = clocks.watched(HOUR)
    clocks.pass_minutes(clock, 10_000)
    assert len(clock._looks) <= 62


def test_with_a_delay_of_zero_the_clock_is_trusted_at_once() -> None:
    clocks = Clocks()
    assert clocks.watched(0.0).look() == START
