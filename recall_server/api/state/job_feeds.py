"""News of jobs for all callers that follow them: one read for each job and change, however many callers wait.

Everything here runs on the event loop, so there are no locks. Reads happen in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator
from typing import final

from recall_server.api.state.shared_reads import SharedReads
from recall_server.errors import Overloaded
from recall_server.jobs.rows.records import ClassifierRecord, Event
from recall_server.jobs.training_jobs import TrainingJobs

MOST_STREAMS = 512
MOST_STREAMS_OF_A_CALLER = 64
KEPT_EVENTS = 100  # of each job, for callers that are a little behind
READ_SECONDS = 15.0  # that one read of the table waits for news


@final
class JobFeeds:
    """The feeds of the jobs that somebody follows, and the limits on how many do."""

    def __init__(self, jobs: TrainingJobs) -> None:
        self._jobs = jobs
        self._feeds: dict[str, Feed] = {}
        self._streams: Counter[str] = Counter()
        self._waits: dict[str, asyncio.Task[ClassifierRecord]] = {}

    @contextlib.asynccontextmanager
    async def stream(self, identifier: str, caller: str) -> AsyncIterator[Feed]:
        """The feed of a job, for one more follower.

        Raises Overloaded, before anything is read, where this caller, or all together, follow too many already.
        """
        if self._streams.total() >= MOST_STREAMS or self._streams[caller] >= MOST_STREAMS_OF_A_CALLER:
            raise Overloaded("too many event streams are open; read the events page by page", retry_after=10)
        self._streams[caller] += 1
        feed = self._feeds.get(identifier)
        if feed is None:
            feed = self._feeds[identifier] = Feed(self._jobs, identifier)
        feed.followers += 1
        try:
            yield feed
        finally:
            self._streams[caller] -= 1
            if not self._streams[caller]:
                del self._streams[caller]
            feed.followers -= 1
            if not feed.followers:
                self._feeds.pop(identifier, None)
                await feed.close()

    async def ended(self, identifier: str, seconds: float) -> ClassifierRecord:
        """The record once the job has ended, or as it is after `seconds` or when the server stops. Raises NotFound."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + seconds
        while (left := limit - loop.time()) > 0:
            task = self._waits.get(identifier)
            if task is None:
                task = self._waits[identifier] = asyncio.create_task(self._jobs.wait(identifier, READ_SECONDS))
                task.add_done_callback(lambda done: self._forget(identifier, done))
            done, _ = await asyncio.wait({task}, timeout=left)
            if done and (task.result().status.is_terminal or self._jobs.room().reason == "draining"):
                return task.result()
        return await asyncio.to_thread(self._jobs.get, identifier)

    def _forget(self, identifier: str, task: asyncio.Task[ClassifierRecord]) -> None:
        if self._waits.get(identifier) is task:
            del self._waits[identifier]
        if not task.cancelled():
            task.exception()  # every caller that waits raises it; there may be none left


@final
class Feed:
    """The latest events of one job, read by one task for all followers."""

    def __init__(self, jobs: TrainingJobs, identifier: str) -> None:
        self.followers = 0
        self._jobs, self._identifier, self._last = jobs, identifier, 0
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._shared = SharedReads()
        self._reader: asyncio.Task[None] | None = None

    async def page(self, after: int, limit: int) -> list[Event]:
        """At most `limit` events after number `after`, as they are now. Raises NotFound, StorageFailed."""
        return await self._shared(self._jobs.events, self._identifier, after=after, limit=limit)

    async def record(self) -> ClassifierRecord:
        """The record of the job as it is now. Raises NotFound, StorageFailed."""
        return await self._shared(self._jobs.get, self._identifier)

    async def events(self, after: int, seconds: float) -> list[Event]:
        """The events after number `after` once there are any; none after `seconds`. Raises NotFound, StorageFailed.

        There must be an event `after`, unless it is 0: the first follower decides where the feed begins.
        """
        if self._reader is None:
            self._last, self._reader = after, asyncio.create_task(self._read())
        known = [event for event in self._events if event.number > after]
        if known and known[0].number == after + 1:
            return known
        if after < self._last:  # behind what is kept
            return await self.page(after, KEPT_EVENTS)
        if self._failure is not None:
            raise self._failure
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        return [event for event in self._events if event.number > after]

    async def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})

    async def _read(self) -> None:
        try:
            while self._jobs.room().reason != "draining":
                found = await self._jobs.wait_for_events(self._identifier, after=self._last, seconds=READ_SECONDS)
                if found:
                    self._last = found[-1].number
                    self._events.extend(found)
                    self._tell()
        except Exception as error:
            self._failure = error
        finally:
            self._tell()

    def _tell(self) -> None:
        """Wake everybody who waits now; later waits are for the next change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
