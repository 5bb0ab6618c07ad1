"""Reloads the library of a running server when bundles on the disk are added, replaced or removed.

Changes are noticed by the stamps of the files, which costs a directory listing. The new library is loaded and verified
completely before it replaces the old one in one assignment. Requests that hold the old library keep it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

from recall_server.library.folder import FileStamp, scan
from recall_server.library.library import Library

SECONDS_TO_STOP = 5.0

logger = logging.getLogger(__name__)


@final
class WatchedLibrary:
    """A library that follows `folder`: after `start`, it is checked for changes every few `seconds`.

    `load(previous)` returns the library of the folder. The constructor calls it and raises what it raises. If it fails
    later, the error is logged and the library stays as it is.
    """

    def __init__(self, load: Callable[[Library | None], Library], folder: Path, seconds: float = 1.0) -> None:
        self._load, self._folder, self._seconds = load, folder, seconds
        self._checking = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = scan(folder)  # before loading, so that a change in between is noticed later
        self._current = load(None)
        self._last_error = ""

    @property
    def current(self) -> Library:
        """The library as it is now. A request should read it once and keep it."""
        return self._current

    def start(self) -> None:
        """Check regularly on a thread of its own, until `stop`. A second call has no effect."""
        if self._thread is not None:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._watch, name="watched-library", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop checking. A check that is under way is waited for, but not for long: files of strangers may hold it.

        May be called twice, and before `start`.
        """
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(SECONDS_TO_STOP)
            if thread.is_alive():
                logger.error("the bundles of %s are still being loaded, and are left", self._folder)

    def check(self) -> bool:
        """Check now, and return whether the library has changed. May be called from any thread; never raises."""
        with self._checking:
            try:
                return self._reload_if_changed()
            except Exception as error:  # the bundles in memory can still be served
                if str(error) != self._last_error:  # logged once, not at every check
                    logger.exception("the bundles of %s could not be reloaded; the previous ones stay", self._folder)
                self._last_error = str(error)
                return False

    def _reload_if_changed(self) -> bool:
        seen: dict[str, FileStamp | None] = scan(self._folder)
        if seen == self._seen:
            return False
        self._current = self._load(self._current)
        self._seen, self._last_error = seen, ""
        return True

    def _watch(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.check()
