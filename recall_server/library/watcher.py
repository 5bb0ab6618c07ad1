"""The library of a running server: bundles that are added, replaced or removed on the disk are picked up by themselves.

A change is noticed by the files' stamps, so that looking costs a directory listing. The new library is loaded and
verified completely before it takes the place of the old one, in one assignment; whoever holds the old one keeps it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

from recall_server.library.folder import FileStamp, scan
from recall_server.library.library import Library

logger = logging.getLogger(__name__)


@final
class WatchedLibrary:
    """`load(previous)` makes the library of `folder`; `seconds` lie between two looks once `start` was called.

    The constructor loads at once, and raises what `load` raises; later a failing `load` is logged and changes nothing.
    """

    def __init__(self, load: Callable[[Library | None], Library], folder: Path, seconds: float = 1.0) -> None:
        self._load, self._folder, self._seconds = load, folder, seconds
        self._looking = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = scan(folder)  # before loading: a change in between is then noticed by the next look
        self._current = load(None)
        self._trouble = ""

    @property
    def current(self) -> Library:
        """The library as it is now. A request reads it once and keeps to it."""
        return self._current

    def start(self) -> None:
        """Look every so many seconds, in a thread of its own, until `stop`. A second call changes nothing."""
        if self._thread is not None:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._watch, name="watched-library", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; returns when no look is under way. May be called twice, and before `start`."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def check(self) -> bool:
        """Look now: whether there is another library than before. Safe from any thread; never raises."""
        with self._looking:
            try:
                return self._look()
            except Exception as error:  # whatever a disk does, the bundles in memory are good to serve
                if str(error) != self._trouble:  # once, and not every second
                    logger.exception("the bundles of %s could not be loaded again; the old ones stay", self._folder)
                self._trouble = str(error)
                return False

    def _look(self) -> bool:
        seen: dict[str, FileStamp | None] = scan(self._folder)
        if seen == self._seen:
            return False
        self._current = self._load(self._current)
        self._seen, self._trouble = seen, ""
        return True

    def _watch(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.check()
