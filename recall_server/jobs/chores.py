"""Work that is repeated on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from recall_server.errors import StorageFailed

SECONDS_TO_STOP = 15.0  # longer than a write waits for a locked table

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Chore:
    """Work to do every so many seconds. `due` is when it is to be done next, on the monotonic clock."""

    work: Callable[[], None]
    seconds: float
    due: float = 0.0


@final
class ChoreThread:
    """A thread that does its chores, each when it is due, until it is stopped. A chore that fails is tried again.

    `on_storage_failed` is called for every StorageFailed that a chore raises.
    """

    def __init__(self, name: str, chores: Sequence[Chore], on_storage_failed: Callable[[], None]) -> None:
        self._name, self._chores, self._on_storage_failed = name, chores, on_storage_failed
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def begin_stop(self) -> None:
        """Begin no further chore."""
        self._stopping.set()

    def finish_stop(self) -> None:
        """Return once the chore under way has ended, or after SECONDS_TO_STOP."""
        self.begin_stop()
        if self._thread is not None:
            self._thread.join(SECONDS_TO_STOP)
            if self._thread.is_alive():
                logger.error("the %s thread does not end, and is left", self._name)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for chore in self._chores:
                if time.monotonic() >= chore.due and not self._stopping.is_set():
                    self._do(chore)
            self._stopping.wait(max(0.0, min(chore.due for chore in self._chores) - time.monotonic()))

    def _do(self, chore: Chore) -> None:
        chore.due = time.monotonic() + chore.seconds
        try:
            chore.work()
        except StorageFailed:  # already in the log
            self._on_storage_failed()
        except Exception:
            logger.exception("the %s thread failed", self._name)
