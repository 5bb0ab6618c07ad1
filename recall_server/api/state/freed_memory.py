"""Gives memory that was freed back to the operating system.

The allocator of glibc keeps what large requests have freed for as long as anything that was allocated later is still in
use. Other allocators return it by themselves.

While it returns memory, nobody else gets any, the event loop included. A busy server therefore does so more rarely.

Garbage in cycles is collected before. That holds the interpreter's lock for a tenth of a second, and `serve` turns it
off elsewhere: by itself, Python does it in any thread, and one of low priority may wait for a processor meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Final

from recall_server.core.training.allocator import release_freed_memory

SECONDS_BETWEEN: Final = 10.0
BUSY_ROUNDS: Final = 2  # that pass without it, at most, while requests are being computed
FEW: Final = 100  # collections of young objects since the last full one, before which another would find little
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
            if gc.get_count()[2] > FEW:
                gc.collect()
            await asyncio.to_thread(release_freed_memory)
