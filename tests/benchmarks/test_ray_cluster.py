"""A benchmark that is told to end ends the nodes of Ray that it started."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from benchmarks.ray_cluster import exit_on_sigterm


@pytest.fixture
def unhandled() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("unhandled")
def test_sigterm_unwinds_what_is_open() -> None:
    exit_on_sigterm()
    ended = []
    with pytest.raises(SystemExit, match="143"):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            ended.append("nodes")
    assert ended == ["nodes"]
