"""What a process needs of its surroundings before anything else is loaded: standard streams and a temporary folder.

This module imports nothing heavy: `recall-server` runs it first.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile

# multiprocessing listens on a socket below the temporary folder. The path of a socket has 107 bytes at most, of which
# multiprocessing takes 32.
LONGEST = 74
SHARED_MEMORY = "/dev/shm"  # noqa: S108  (a folder in memory that every user may write to)


def open_standard_streams() -> None:
    """Open closed standard streams on the null device.

    Otherwise the next file that is opened takes the number of the closed stream, and messages are written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            os.set_inheritable(number, True)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)


def choose_temporary_folder() -> None:
    """Use shared memory or the state folder where no temporary folder can be written to, or where its path is too long.

    The choice holds for all processes that this one starts. Without any such folder, the first use of one fails.
    """
    with contextlib.suppress(OSError):
        if len(os.fsencode(tempfile.gettempdir())) <= LONGEST:
            return
    for folder in (SHARED_MEMORY, os.path.abspath(os.environ.get("RECALL_STATE") or "state")):
        if len(os.fsencode(folder)) <= LONGEST and os.access(folder, os.W_OK | os.X_OK):
            os.environ["TMPDIR"], tempfile.tempdir = folder, None
            return
