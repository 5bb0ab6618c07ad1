"""Lets coroutines wait for changes of a job, made by threads of this process or by other servers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import final


@final
class Watcher:
    """Tells one coroutine when its job has changed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Return True once the job has changed since the last call, or False after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        changed = self._event.is_set()
        self._event.clear()
        return changed

    def notify(self) -> None:
        """Wake the coroutine; may be called from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing waits any more
            self._loop.call_soon_threadsafe(self._event.set)


@final
class Watchers:
    """All watchers by job. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, list[Watcher]] = defaultdict(list)
        self._revisions: dict[str, int] = {}

    @contextlib.contextmanager
    def watching(self, identifier: str) -> Iterator[Watcher]:
        """A watcher that sees every change of this job from now on."""
        watcher = Watcher()
        with self._lock:
            self._waiting[identifier].append(watcher)
        try:
            yield watcher
        finally:
            with self._lock:
                self._waiting[identifier].remove(watcher)
                if not self._waiting[identifier]:
                    del self._waiting[identifier]
                    self._revisions.pop(identifier, None)

    @property
    def identifiers(self) -> Collection[str]:
        """The jobs that are watched."""
        with self._lock:
            return list(self._waiting)

    def notify(self, identifier: str) -> None:
        """Wake whoever watches this job."""
        with self._lock:
            for watcher in self._waiting.get(identifier, ()):
                watcher.notify()

    def notify_changed(self, revisions: Mapping[str, int]) -> None:
        """Wake whoever watches a job whose revision differs from the last call; a deleted job has none."""
        with self._lock:
            watched = list(self._waiting)
            changed = [name for name in watched if self._revisions.get(name) != revisions.get(name)]
            self._revisions = {name: revisions[name] for name in watched if name in revisions}
        for identifier in changed:
            self.notify(identifier)
