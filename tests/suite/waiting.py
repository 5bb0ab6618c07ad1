"""Wait for what another process or thread does, with patience for a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Return when `condition` holds; fail, naming `what` was awaited, after `PATIENCE` seconds."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, f"waited {PATIENCE:g} seconds in vain until {what}"
        time.sleep(0.01)
