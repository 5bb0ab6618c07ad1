"""Keep freed memory in the process instead of returning it to the system after every tensor.

Processes that train call this at their start: `recall-trainer`, the server's training process and the benchmarks.
glibc allocates large tensors with mmap and unmaps them when they are freed, so each training step pays for fresh,
zeroed pages again: a fifth of the time of a backward step, and more where processes share the machine. Other C
libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import platform

# malloc.h of glibc; mallopt(3)
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER_TRIM = 2**31 - 1
_PADDING = 0  # bytes of free memory to keep at the end of the heap; malloc_trim(3)


def keep_freed_memory() -> bool:
    """Tell glibc not to use mmap for tensors and not to shrink its heap. Returns False without glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER_TRIM))


def release_freed_memory() -> bool:
    """Return free memory to the system once. Returns False without glibc, or if nothing could be returned.

    A process that keeps freed memory calls this between two tasks. The fragments that one task leaves are of no use
    to the next, so without this the process would grow with every task.
    """
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).malloc_trim(_PADDING))
