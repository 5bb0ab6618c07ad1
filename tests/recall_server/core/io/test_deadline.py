"""A deadline acts on a body that takes too long, and never afterwards."""

from __future__ import annotations

import threading

import pytest

from recall_server.core.io.deadline import calls_after
from tests.suite.waiting import PATIENCE


def test_a_body_that_takes_too_long_is_acted_on() -> None:
    acted = threading.Event()
    with calls_after(0.01, acted.set):
        assert acted.wait(PATIENCE)


def test_nothing_is_called_after_a_body_that_ended_or_failed() -> None:
    called: list[int] = []
    with calls_after(3600.0, lambda: called.append(1)):
        pass
    with pytest.raises(ValueError, match="its own"), calls_after(3600.0, lambda: called.append(1)):
        raise ValueError("its own")
    assert called == []
