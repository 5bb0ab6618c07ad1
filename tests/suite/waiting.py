"""Wait for what another process or thread does, with patience for a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds
SOON = 30.0  # seconds


def eventually(condition: Callable[[], bool], what: str, *, patience: float = PATIENCE) -> None:
    """Return when `condition` holds; fail, naming `what` was awaited, after `patience` seconds."""
    limit = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < limit, f"waited {patience:g} seconds in vain until {what}"
        time.sleep(0.01)


def assert_ends_soon(action: Callable[[], object]) -> None:
    """Fail if the action takes longer than a busy machine explains."""
    began = time.monotonic()
    action()
    assert time.monotonic() - began < SOON
