"""Threads that work for requests give way to the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest
from anyio import CapacityLimiter
from fastapi.testclient import TestClient

from recall_server.api.state.computing import compute
from recall_server.api.state.context import Context
from recall_server.core.scheduling import LOWEST, THREADS

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives each thread a priority of its own")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@only_linux
def test_the_event_loop_goes_before_the_threads_that_compute() -> None:
    async def scenario() -> None:
        limiter, before = CapacityLimiter(1), niceness()
        for _ in range(3):  # a thread that computes again does not sink further
            assert await compute(niceness, limiter) == min(LOWEST, before + THREADS)
        assert niceness() == before

    asyncio.run(scenario())


@only_linux
def test_it_also_goes_before_threads_that_parse_or_ask_the_job_table(client: TestClient) -> None:
    context: Context = client.app.state.context  # type: ignore[attr-defined]
    for work in (context.parse, context.look, asyncio.to_thread):
        assert client.portal is not None
        assert client.portal.call(work, niceness) == min(LOWEST, niceness() + THREADS)


def test_errors_of_a_computation_are_raised() -> None:
    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            await compute(lambda: 1 // 0, CapacityLimiter(1))

    asyncio.run(scenario())
