"""Reads of the job table that callers share who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, ParamSpec, TypeVar, final

P = ParamSpec("P")
Result = TypeVar("Result")


@final
class SharedReads:
    """Calls functions in threads; a call that is under way answers whoever asks the same meanwhile.

    An answer may be as old as the call, so it suits those who follow something, not those who have just changed it.
    Used on the event loop only.
    """

    def __init__(self) -> None:
        self._calls: dict[Hashable, asyncio.Task[Any]] = {}

    async def __call__(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        key = (function, args, tuple(kwargs.items()))
        task: asyncio.Task[Result] | None = self._calls.get(key)
        if task is None:
            task = self._calls[key] = asyncio.create_task(asyncio.to_thread(partial(function, *args, **kwargs)))
            task.add_done_callback(partial(self._ended, key))
        return await asyncio.shield(task)  # one who leaves takes nothing from the others

    def _ended(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._calls[key]
        if not task.cancelled():
            task.exception()  # everybody who waits raises it; there may be nobody left
