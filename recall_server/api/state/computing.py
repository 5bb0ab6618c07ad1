"""Threads that compute for requests. They give way to the event loop, which answers everybody."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread

NICENESS: Final = 5  # added niceness of a thread, as of the processes that train and decode

Result = TypeVar("Result")
_thread = threading.local()


async def compute(function: Callable[[], Result], limiter: CapacityLimiter) -> Result:
    """What `function` returns, from a thread of low priority; `limiter` says how many run at a time."""
    return await to_thread.run_sync(_compute, function, limiter=limiter)


def _compute(function: Callable[[], Result]) -> Result:
    if not getattr(_thread, "gives_way", False):
        _thread.gives_way = True
        _give_way()
    return function()


def _give_way() -> None:
    """Lower the priority of this thread for good. Only Linux gives each thread a priority of its own."""
    if sys.platform == "linux":
        number = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, number, os.getpriority(os.PRIO_PROCESS, number) + NICENESS)
