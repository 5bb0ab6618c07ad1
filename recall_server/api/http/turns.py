"""Turns of the event loop, handed out one at a time, so that many answers that become ready together pass one by one.

Each takes a millisecond or so. All of them in one turn would keep every other caller waiting for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

_waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, deque[Callable[[], None]]] = WeakKeyDictionary()


def one_in_a_turn(function: Callable[[], None]) -> None:
    """Call it soon; of all functions that are given, one in each turn of the event loop."""
    loop = asyncio.get_running_loop()
    waiting = _waiting.setdefault(loop, deque())
    waiting.append(function)

    def call_next() -> None:
        try:
            waiting[0]()
        finally:
            waiting.popleft()
            if waiting:
                loop.call_soon(call_next)

    if len(waiting) == 1:
        loop.call_soon(call_next)


async def own_turn() -> None:
    """Wait for a turn that no other caller of `own_turn` or `one_in_a_turn` has."""
    ready = asyncio.Event()
    one_in_a_turn(ready.set)
    await ready.wait()
