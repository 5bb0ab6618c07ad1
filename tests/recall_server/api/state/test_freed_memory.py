"""Freed memory goes back to the operating system every few seconds, where the allocator has to be asked."""

from __future__ import annotations

import asyncio

import pytest

from recall_server.api.state import freed_memory


def test_freed_memory_is_released_periodically_until_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(freed_memory, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(freed_memory, "_trim", lambda: lambda kept: len(asked) or asked.append(kept) or 0)

    async def scenario() -> None:
        task = asyncio.create_task(freed_memory.return_freed_memory())
        while not asked:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert asked == [0]


def test_caches_drop_what_is_unused_with_any_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[float] = []
    monkeypatch.setattr(freed_memory, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(freed_memory, "_trim", lambda: None)

    async def scenario() -> None:
        task = asyncio.create_task(freed_memory.return_freed_memory(dropped.append))
        while not dropped:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert dropped[0] == freed_memory.UNUSED_SECONDS
