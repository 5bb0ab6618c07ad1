"""Threads that compute for requests give way to the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest
from anyio import CapacityLimiter

from recall_server.api.state.computing import NICENESS, compute


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives each thread a priority of its own")
def test_the_event_loop_goes_before_the_threads_that_compute() -> None:
    async def scenario() -> None:
        limiter, before = CapacityLimiter(1), niceness()
        for _ in range(3):  # a thread that computes again does not sink further
            assert await compute(niceness, limiter) == min(19, before + NICENESS)
        assert niceness() == before

    asyncio.run(scenario())


def test_errors_of_a_computation_are_raised() -> None:
    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            await compute(lambda: 1 // 0, CapacityLimiter(1))

    asyncio.run(scenario())
