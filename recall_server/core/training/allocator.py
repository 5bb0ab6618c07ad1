"""How the allocator of glibc keeps and returns memory.

Processes that train keep freed memory: `recall-trainer`, the server's training process and the benchmarks. glibc
allocates large tensors with mmap and unmaps them when they are freed, so each step of a training pays for fresh, zeroed
pages again: a fifth of the time of a backward step, and more where processes share the machine.

A process that serves takes all memory from one arena. By default threads get arenas of their own, up to eight for each
processor, and `malloc_trim` does not return the free end of any but the first: up to 64 MB each.

Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import platform

# malloc.h of glibc; mallopt(3)
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER_TRIM = 2**31 - 1
_PADDING = 0  # bytes of free memory to keep at the end of the heap; malloc_trim(3)


def keep_freed_memory() -> bool:
    """Tell glibc not to use mmap for tensors and not to shrink its heap. Returns False without glibc."""
    return _set(_MMAP_MAX, 0) and _set(_TRIM_THRESHOLD, _NEVER_TRIM)


def use_one_arena() -> bool:
    """Let threads that start from now on share the main arena. Returns False without glibc."""
    return _set(_ARENA_MAX, 1)


def release_freed_memory() -> bool:
    """Return free memory to the system once. Returns False without glibc, or if nothing could be returned.

    A process that keeps freed memory calls this between two tasks. The fragments that one task leaves are of no use
    to the next, so without this the process would grow with every task.
    """
    return _is_glibc() and bool(ctypes.CDLL(None).malloc_trim(_PADDING))


def _set(parameter: int, value: int) -> bool:
    return _is_glibc() and bool(ctypes.CDLL(None).mallopt(parameter, value))


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
