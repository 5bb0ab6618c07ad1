"""Hundreds of followers of one job cost one read for each change, and each sees every event once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from recall_server.api.state import job_feeds
from recall_server.api.state.job_feeds import JobFeeds
from recall_server.errors import NotFound, Overloaded
from recall_server.jobs.rows.records import ClassifierRecord, Event, JobStatus, now
from tests.recall_server.job_examples import record

FOLLOWERS = 400
JOB = "a" * 32


class FakeJobs:
    """One job, whose events are appended by the test; it counts how often it is read."""

    def __init__(self, events: int = 0) -> None:
        self.numbers = events
        self.reads: Counter[str] = Counter()
        self.changed = asyncio.Event()
        self.status = JobStatus.RUNNING
        self.deleted = False

    def add(self) -> None:
        self.numbers += 1
        self.tell()

    def tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def room(self) -> Any:
        return type("Room", (), {"reason": ""})()

    def events(self, identifier: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        self.reads["events"] += 1
        if self.deleted:
            raise NotFound(identifier)
        numbers = range(after + 1, min(after + limit, self.numbers) + 1)
        return [Event(number=number, at=now(), kind="progress", status=self.status) for number in numbers]

    def get(self, identifier: str) -> ClassifierRecord:
        self.reads["get"] += 1
        return record(identifier, status=self.status)

    async def wait_for_events(self, identifier: str, *, after: int, seconds: float) -> list[Event]:
        while not (found := self.events(identifier, after=after)):
            await self.changed.wait()
        return found

    async def wait(self, identifier: str, seconds: float) -> ClassifierRecord:
        while not (found := self.get(identifier)).status.is_terminal:
            await self.changed.wait()
        return found


async def follow(feeds: JobFeeds, caller: str, until: int, after: int = 0) -> list[int]:
    """The numbers of the events that a follower sees."""
    seen: list[int] = []
    async with feeds.stream(JOB, caller) as feed:
        while after < until:
            for event in await feed.events(after, 20):
                after = event.number
                seen.append(after)
    return seen


def test_a_change_is_read_once_for_all_followers() -> None:
    async def scenario() -> None:
        jobs: Any = FakeJobs()
        feeds = JobFeeds(jobs)
        tasks = [asyncio.create_task(follow(feeds, f"caller {number}", 10)) for number in range(FOLLOWERS)]
        await asyncio.sleep(0.05)
        for _ in range(10):
            jobs.add()
            await asyncio.sleep(0.01)
        assert await asyncio.gather(*tasks) == [list(range(1, 11))] * FOLLOWERS
        assert jobs.reads["events"] < 30, jobs.reads
        assert not feeds._feeds and not feeds._streams

    asyncio.run(scenario())


def test_simultaneous_followers_share_reads_and_one_over_the_limit_reads_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_feeds, "MOST_STREAMS_OF_A_CALLER", FOLLOWERS)

    async def scenario() -> None:
        jobs: Any = FakeJobs(events=3)
        feeds = JobFeeds(jobs)

        async def open_one() -> tuple[int, JobStatus]:
            async with feeds.stream(JOB, "a") as feed:
                return len(await feed.page(0, 100)), (await feed.record()).status

        opened = await asyncio.gather(*(open_one() for _ in range(FOLLOWERS + 50)), return_exceptions=True)
        assert opened[:FOLLOWERS] == [(3, JobStatus.RUNNING)] * FOLLOWERS
        assert all(isinstance(refused, Overloaded) for refused in opened[FOLLOWERS:])
        assert jobs.reads == {"events": 1, "get": 1}

    asyncio.run(scenario())


def test_followers_that_are_behind_or_ahead_see_every_event_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_feeds, "KEPT_EVENTS", 5)

    async def scenario() -> None:
        jobs: Any = FakeJobs(events=50)
        feeds = JobFeeds(jobs)
        tasks = [asyncio.create_task(follow(feeds, "a", 60, after)) for after in (50, 0, 20, 49, 50)]
        await asyncio.sleep(0.05)
        for _ in range(10):
            jobs.add()
            await asyncio.sleep(0.01)
        expected = [list(range(after + 1, 61)) for after in (50, 0, 20, 49, 50)]
        assert await asyncio.wait_for(asyncio.gather(*tasks), 10) == expected

    asyncio.run(scenario())


def test_a_deleted_job_ends_every_stream() -> None:
    async def scenario() -> None:
        jobs: Any = FakeJobs(events=3)
        feeds = JobFeeds(jobs)
        tasks = [asyncio.create_task(follow(feeds, "a", 10, after)) for after in (3, 3, 3)]
        await asyncio.sleep(0.05)
        jobs.deleted = True
        jobs.tell()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert all(isinstance(result, NotFound) for result in results)

    asyncio.run(scenario())


@pytest.mark.parametrize(("everybody", "one"), [(6, 99), (99, 3)])
def test_streams_are_limited_for_one_caller_and_for_all(
    monkeypatch: pytest.MonkeyPatch, everybody: int, one: int
) -> None:
    monkeypatch.setattr(job_feeds, "MOST_STREAMS", everybody)
    monkeypatch.setattr(job_feeds, "MOST_STREAMS_OF_A_CALLER", one)

    async def scenario() -> None:
        jobs: Any = FakeJobs()
        feeds = JobFeeds(jobs)
        tasks = [asyncio.create_task(follow(feeds, "a", 1)) for _ in range(min(everybody, one))]
        await asyncio.sleep(0.02)
        with pytest.raises(Overloaded):
            await follow(feeds, "a", 1)
        if one < everybody:
            tasks.append(asyncio.create_task(follow(feeds, "b", 1)))
            await asyncio.sleep(0.02)
        jobs.add()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert await asyncio.wait_for(follow(feeds, "a", 1), 10) == [1]

    asyncio.run(scenario())


def test_callers_that_wait_for_the_end_share_reads() -> None:
    async def scenario() -> None:
        jobs: Any = FakeJobs()
        feeds = JobFeeds(jobs)
        tasks = [asyncio.create_task(feeds.ended(JOB, 20)) for _ in range(FOLLOWERS)]
        short = await asyncio.wait_for(feeds.ended(JOB, 0.05), 10)
        assert short.status is JobStatus.RUNNING
        for _ in range(5):
            jobs.tell()
            await asyncio.sleep(0.01)
        jobs.status = JobStatus.SUCCEEDED
        jobs.tell()
        assert {each.status for each in await asyncio.gather(*tasks)} == {JobStatus.SUCCEEDED}
        assert jobs.reads["get"] < 15, jobs.reads
        assert not feeds._waits

    asyncio.run(scenario())
