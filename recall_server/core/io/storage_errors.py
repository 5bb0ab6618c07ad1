"""What an error of the operating system means to those who wait for a file."""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

from recall_server.errors import StorageBusy, StorageFailed

# Too many open files, in this process or in the system, or no memory for another one: this passes.
PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
HANDLES_IN_RESERVE: Final = 8


def storage_failure(what: str, error: OSError) -> StorageFailed:
    """The error to raise: `what` and its reason, without a path. StorageBusy where another try may succeed."""
    kind = StorageBusy if error.errno in PASSING else StorageFailed
    return kind(f"{what}: {error.strerror or type(error).__name__}")


def handles_are_scarce() -> bool:
    """Whether this process has hardly any file handle left. Libraries do not say why they cannot open a file."""
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError as error:
        return error.errno in PASSING
    return used > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - HANDLES_IN_RESERVE
