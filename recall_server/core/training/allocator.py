"""Keep freed memory in the process instead of handing it back to the system after every tensor.

For processes that train, as they start: `recall-trainer`, the server's training process, and the benchmarks (for
both sides). glibc serves large tensors by mmap and returns them when they die, so each step of training pays again for
fresh, zeroed pages: a fifth of the time of a reverse step, and more where processes share the machine. Other C
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
    """Tell glibc not to use mmap for tensors and not to shrink its heap; False where there is no glibc to tell."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER_TRIM))


def release_freed_memory() -> bool:
    """Hand back what is free by now, once; False where there is no glibc, or nothing to hand back.

    For between two tasks of a process that keeps what it frees: what the one leaves in pieces is of no use to the
    other, which would otherwise grow the process by as much again.
    """
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).malloc_trim(_PADDING))
