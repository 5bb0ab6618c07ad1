"""Gives memory that was freed back to the operating system.

The allocator of glibc keeps what large requests have freed for as long as anything that was allocated later is still in
use. Other allocators return it by themselves.

While it returns memory, nobody else gets any, the event loop included. A busy server therefore does so more rarely.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from recall_server.core.training.allocator import release_freed_memory

SECONDS_BETWEEN: Final = 10.0
BUSY_ROUNDS: Final = 2  # that pass without it, at most, while requests are being computed
UNUSED_SECONDS: Final = 30.0  # after which a cache forgets a value


async def return_freed_memory(busy: Callable[[], bool], *drop_unused: Callable[[float], None]) -> None:
    """Do so every few seconds until cancelled, after each cache has dropped what was unused for UNUSED_SECONDS."""
    passed = 0
    while True:
        await asyncio.sleep(SECONDS_BETWEEN)
        for drop in drop_unused:
            await asyncio.to_thread(drop, UNUSED_SECONDS)
        passed = passed + 1 if busy() and passed < BUSY_ROUNDS else 0
        if not passed:
            await asyncio.to_thread(release_freed_memory)
