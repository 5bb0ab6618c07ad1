"""The asyncio client as a blocking one, so that one set of tests covers both."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

from anyio.from_thread import BlockingPortal


class Blocking:
    """An object whose coroutine methods run in an event loop of another thread, and block."""

    def __init__(self, target: Any, portal: BlockingPortal) -> None:
        self._target, self._portal = target, portal

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not inspect.ismethod(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            result = value(*arguments, **options)
            if isinstance(result, AsyncIterator):
                return self._each(result)
            return self._wrapped(self._portal.call(_awaited, result) if isinstance(result, Awaitable) else result)

        return call

    def _each(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        while (item := self._portal.call(_next, items)) is not None:
            yield item

    def _wrapped(self, result: Any) -> Any:
        if isinstance(result, list):
            return [self._wrapped(each) for each in result]
        return Blocking(result, self._portal) if type(result).__name__.startswith("Async") else result


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, None)
