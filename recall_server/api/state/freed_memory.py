"""Gives memory that was freed back to the operating system.

The allocator of glibc keeps what large requests have freed, in an arena of each thread, for as long as anything that
was allocated later is still in use. Other allocators return it by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from collections.abc import Callable
from typing import Final

SECONDS_BETWEEN: Final = 10.0
UNUSED_SECONDS: Final = 30.0  # after which a cache forgets a value


async def return_freed_memory(*drop_unused: Callable[[float], None]) -> None:
    """Do so every few seconds until cancelled, after each cache has dropped what was unused for UNUSED_SECONDS."""
    trim = _trim()
    while True:
        await asyncio.sleep(SECONDS_BETWEEN)
        for drop in drop_unused:
            await asyncio.to_thread(drop, UNUSED_SECONDS)
        if trim is not None:
            await asyncio.to_thread(trim, 0)


def _trim() -> Callable[[int], int] | None:
    with contextlib.suppress(OSError, AttributeError):
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return trim
    return None
