"""Who asks the same at the same time gets the answer of one read."""

from __future__ import annotations

import asyncio
import threading

import pytest

from recall_server.api.state.shared_reads import SharedReads
from recall_server.errors import NotFound

PATIENCE = 60.0


class Table:
    """Answers once it is allowed to, and counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0
        self.allowed = threading.Event()

    def read(self, number: int, *, fail: bool = False) -> int:
        self.reads += 1
        assert self.allowed.wait(PATIENCE)
        if fail:
            raise NotFound("there is none")
        return number


def test_simultaneous_equal_reads_are_shared_and_a_later_one_is_new() -> None:
    async def scenario() -> None:
        table, shared = Table(), SharedReads()
        asking = [asyncio.create_task(shared(table.read, number)) for number in (1, 1, 2, 1)]
        await asyncio.sleep(0)
        table.allowed.set()
        assert await asyncio.gather(*asking) == [1, 1, 2, 1]
        assert table.reads == 2
        assert await shared(table.read, 1) == 1
        assert table.reads == 3

    asyncio.run(scenario())


def test_an_error_reaches_all_sharers_and_a_leaving_one_affects_nobody() -> None:
    async def scenario() -> None:
        table, shared = Table(), SharedReads()
        failing = [asyncio.create_task(shared(table.read, 1, fail=True)) for _ in range(2)]
        leaving, staying = (asyncio.create_task(shared(table.read, 1)) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        table.allowed.set()
        results = await asyncio.gather(*failing, leaving, return_exceptions=True)
        assert [type(result) for result in results] == [NotFound, NotFound, asyncio.CancelledError]
        assert await staying == 1
        with pytest.raises(NotFound):
            await shared(table.read, 1, fail=True)
        assert table.reads == 3

    asyncio.run(scenario())
