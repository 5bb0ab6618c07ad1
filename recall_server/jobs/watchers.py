"""Coroutines that wait for news of a job, which comes from threads of this process and from the table."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import final


@final
class News:
    """Whether something has happened to a job, for one coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """True as soon as something has happened since the last call; False after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        arrived = self._event.is_set()
        self._event.clear()
        return arrived

    def tell(self) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._event.set)


@final
class Watchers:
    """Who waits for news of which job. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, list[News]] = defaultdict(list)
        self._revisions: dict[str, int] = {}

    @contextlib.contextmanager
    def watching(self, identifier: str) -> Iterator[News]:
        """News of this job from now on."""
        news = News()
        with self._lock:
            self._waiting[identifier].append(news)
        try:
            yield news
        finally:
            with self._lock:
                self._waiting[identifier].remove(news)
                if not self._waiting[identifier]:
                    del self._waiting[identifier]
                    self._revisions.pop(identifier, None)

    @property
    def identifiers(self) -> Collection[str]:
        """The jobs that somebody waits for."""
        with self._lock:
            return list(self._waiting)

    def tell(self, identifier: str) -> None:
        """Something has happened to this job."""
        with self._lock:
            for news in self._waiting.get(identifier, ()):
                news.tell()

    def compare(self, revisions: Mapping[str, int]) -> None:
        """Tell those whose job has another revision than the last time; a job that is missing here is gone."""
        with self._lock:
            watched = list(self._waiting)
            changed = [name for name in watched if self._revisions.get(name) != revisions.get(name)]
            self._revisions = {name: revisions[name] for name in watched if name in revisions}
        for identifier in changed:
            self.tell(identifier)
