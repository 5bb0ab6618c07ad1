"""Freed memory goes back to the operating system every few seconds, where the allocator has to be asked."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from recall_server.api.state import freed_memory


@pytest.mark.parametrize("busy", [False, True])
def test_caches_drop_what_is_unused_and_freed_memory_is_released_more_rarely_while_busy(
    busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[float | str] = []
    monkeypatch.setattr(freed_memory, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(freed_memory, "release_freed_memory", lambda: done.append("released"))

    async def scenario() -> None:
        task = asyncio.create_task(freed_memory.return_freed_memory(lambda: busy, done.append))
        while done.count("released") < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(scenario(), 30))
    before = [freed_memory.UNUSED_SECONDS] * (freed_memory.BUSY_ROUNDS if busy else 0)
    assert done[: 2 * len(before) + 4] == [*before, freed_memory.UNUSED_SECONDS, "released"] * 2


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_old_garbage_is_collected_by_the_event_loop_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(freed_memory, "FEW", -1)
    full: list[threading.Thread] = []

    def seen(phase: str, about: dict[str, int]) -> None:
        if phase == "stop" and about["generation"] == 2:
            full.append(threading.current_thread())

    async def scenario() -> None:
        cycle = weakref.ref(Cycle())
        task = asyncio.create_task(freed_memory.return_freed_memory(lambda: False))
        while cycle() is not None:
            await asyncio.sleep(0.001)
        task.cancel()

    before = gc.get_threshold()
    gc.callbacks.append(seen)
    gc.set_threshold(0)  # no collection but those that are asked for
    try:
        asyncio.run(asyncio.wait_for(scenario(), 30))
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(seen)
    assert full
    assert set(full) == {threading.current_thread()}
