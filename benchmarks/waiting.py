"""Wait for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 180.0


def until(condition: Callable[[], bool], what: str, *, seconds_between_looks: float = 0.1) -> None:
    """Return when the condition holds; raises TimeoutError, which names what was awaited, if it does not."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(f"waited {PATIENCE:g} seconds without success until {what}")
        time.sleep(seconds_between_looks)
