"""What a process needs of its surroundings before anything else is loaded: standard streams and a temporary folder.

This module imports nothing heavy: `recall-server` runs it first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sys
import tempfile
from multiprocessing.util import Finalize

# multiprocessing listens on a socket below the temporary folder. The path of a socket has 107 bytes at most, of which
# multiprocessing takes 32.
LONGEST = 74
OWN = ".recall-server-"  # a folder of one server's own is called so, and 8 more characters
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


def take_own_temporary_folder() -> None:
    """Use a new folder in the temporary folder, deleted at the end, and delete those of servers that were killed.

    Who is killed deletes neither its sockets nor its folder. The lock on a folder ends with the process that took it,
    so that others know which folders nobody uses. Without room for such a folder, the temporary folder itself is used.
    """
    with contextlib.suppress(OSError):
        parent = tempfile.gettempdir()
        if len(os.fsencode(parent)) + len(f"/{OWN}") + 8 > LONGEST:
            return
        for name in os.listdir(parent):
            if re.fullmatch(re.escape(OWN) + "[a-z0-9_]{8}", name):
                _delete_unused(os.path.join(parent, name))
        folder = tempfile.mkdtemp(prefix=OWN)
        if _lock(folder):
            # After multiprocessing has deleted its own folder in this one, which has the priority -100.
            Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-200)
            os.environ["TMPDIR"], tempfile.tempdir = folder, None


def _delete_unused(folder: str) -> None:
    with contextlib.suppress(OSError):
        if os.lstat(folder).st_uid == os.geteuid() and (lock := _lock(folder)):
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: str) -> int | None:
    """The number of the file that holds the lock on this folder; None where another process has it."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number
