"""Waiting for a job and for its events."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from recall_server.errors import NotFound
from recall_server.jobs.rows.records import JobStatus
from tests.recall_server.job_examples import Pair, jobs_with, record, training_task
from tests.recall_server.serving_examples import ManualBackend
from tests.suite.waiting import PATIENCE


def test_waiting_ends_with_the_job_or_with_the_time(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record(), training_task()).record.id

    async def scenario() -> list[JobStatus]:
        impatient = await jobs.wait(identifier, 0.01)
        patient = [asyncio.create_task(jobs.wait(identifier, PATIENCE)) for _ in range(2)]
        left = asyncio.create_task(jobs.wait(identifier, PATIENCE))
        await asyncio.sleep(0.01)
        left.cancel()  # a caller who goes away must not take the others' news along
        threading.Thread(target=backend.perform).start()
        return [impatient.status, *[(await task).status for task in patient], (await jobs.wait(identifier, 1)).status]

    queued, *finished = asyncio.run(scenario())
    assert queued is JobStatus.QUEUED
    assert finished == [JobStatus.SUCCEEDED] * 3


def test_waiting_for_events_ends_with_the_next_one_or_with_the_time(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record(), training_task()).record.id

    async def scenario() -> list[list[str]]:
        there = await jobs.wait_for_events(identifier, after=0, seconds=PATIENCE)
        none = await jobs.wait_for_events(identifier, after=1, seconds=0.01)
        next_one = asyncio.create_task(jobs.wait_for_events(identifier, after=1, seconds=PATIENCE))
        await asyncio.sleep(0.01)
        threading.Thread(target=backend.begin).start()
        return [[event.status for event in events] for events in (there, none, await next_one)]

    assert asyncio.run(scenario()) == [["queued"], [], ["running"]]


def test_waiting_ends_when_the_server_stops(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path)
    identifier = jobs.submit(record(), training_task()).record.id

    async def scenario() -> JobStatus:
        waiting = asyncio.create_task(jobs.wait(identifier, PATIENCE))
        events = asyncio.create_task(jobs.wait_for_events(identifier, after=1, seconds=PATIENCE))
        await asyncio.sleep(0.01)
        jobs.begin_drain()
        assert await asyncio.wait_for(events, 5) == []
        return (await asyncio.wait_for(waiting, 5)).status

    assert asyncio.run(scenario()) is JobStatus.QUEUED
    assert asyncio.run(jobs.wait(identifier, PATIENCE)).status is JobStatus.QUEUED


def test_waiting_for_an_unknown_job_is_an_error(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path)
    with pytest.raises(NotFound):
        asyncio.run(jobs.wait("nobody", 1))
    with pytest.raises(NotFound):
        asyncio.run(jobs.wait_for_events("nobody", after=0, seconds=1))


def test_waiting_at_one_server_notices_changes_by_another(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    identifier = pair.one.submit(record(), training_task()).record.id

    async def scenario() -> tuple[JobStatus, list[JobStatus]]:
        end = asyncio.create_task(pair.one.wait(identifier, PATIENCE))
        event = asyncio.create_task(pair.one.wait_for_events(identifier, after=1, seconds=PATIENCE))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(pair.backends[1].perform)
        return (await end).status, [each.status for each in await event][:1]

    assert asyncio.run(scenario()) == ("succeeded", ["running"])
