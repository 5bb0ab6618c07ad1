"""Who goes first where several want the same processor: the event loop, since it answers everybody.

Threads that compute for requests and processes that train come next. Processes that decode pictures of strangers come
last: the event loop waits for a thread that holds the interpreter's lock, and that thread must not wait for its
processor.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Final

# Niceness above that of the event loop, which runs in the main thread of the server. Five make a third of the share.
THREADS: Final = 5
TRAINING: Final = 5  # by 10, half as many trainings of honest callers ended under attack
PROCESSES: Final = 10
LOWEST: Final = 19


def let_event_loop_first() -> None:
    """Give this thread of the server a lower priority, for good. Only Linux gives each thread one of its own."""
    if sys.platform == "linux":
        _be_nice(THREADS, os.getpid())


def let_server_first(niceness: int = PROCESSES) -> None:
    """Give this process, which the server has started, a lower priority, for good."""
    _be_nice(niceness, os.getppid())


def _be_nice(niceness: int, process: int) -> None:
    """Be so much nicer than the main thread of a process, whatever the thread is that has started this one."""
    with contextlib.suppress(OSError):  # it has ended, a sandbox forbids it, or the priority is lower already
        wanted = min(LOWEST, os.getpriority(os.PRIO_PROCESS, process) + niceness)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id() if sys.platform == "linux" else 0, wanted)
