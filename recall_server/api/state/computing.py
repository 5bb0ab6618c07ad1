"""Threads that work for requests. They give way to the event loop, which answers everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from recall_server.core.scheduling import let_event_loop_first

Result = TypeVar("Result")


async def compute(function: Callable[[], Result], limiter: CapacityLimiter) -> Result:
    """What `function` returns, from a thread of low priority; `limiter` says how many run at a time."""
    return await to_thread.run_sync(_compute, function, limiter=limiter)


def _compute(function: Callable[[], Result]) -> Result:
    let_event_loop_first()
    return function()
