"""Deadlines for calls that have no time limit of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def calls_after(seconds: float, action: Callable[[], object]) -> Iterator[None]:
    """Call `action` in another thread if the body takes longer. It never begins after the body has ended."""
    lock, ended = threading.Lock(), False

    def act() -> None:
        with lock:
            if not ended:
                action()

    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            ended = True
