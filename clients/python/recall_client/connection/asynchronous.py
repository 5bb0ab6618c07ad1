"""Runs exchanges in an event loop; files and pictures are worked on in threads, so that the loop never waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar

import httpx2

from recall_client.connection.exchange import Exchange, Next, Open, Outcome, Pause, Send, Step, Work
from recall_client.messages.requests import http_arguments

T = TypeVar("T")


class AsyncConnection:
    """A pool of connections to one server, for the tasks of one event loop."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def aclose(self) -> None:
        await self._http.aclose()

    async def run(self, exchange: Exchange[T]) -> T:
        """Everything that the exchange asks for, to its end. Raises what it raises."""
        async with aclosing(self.session()) as session:
            return await session.run(exchange)

    def session(self) -> AsyncSession:
        """For exchanges that read one answer between them; to be closed."""
        return AsyncSession(self._http)


class AsyncSession:
    """Runs exchanges one after another, and keeps an answer open between them."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self._open: httpx2.Response | None = None
        self._items: AsyncIterator[bytes | httpx2.ServerSentEvent]

    async def aclose(self) -> None:
        """Let go of the answer that is open."""
        if self._open is not None:
            await self._open.aclose()
            self._open = None

    async def run(self, exchange: Exchange[T]) -> T:
        """As `AsyncConnection.run`."""
        outcome = Outcome()
        while True:
            try:
                step = outcome.resume(exchange)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                outcome = Outcome(await self._perform(step))
            except BaseException as error:  # the exchange cleans up behind itself, and raises it again
                outcome = Outcome(error=error)

    async def _perform(self, step: Step) -> Any:
        match step:
            case Send(request, timeout):
                return await self._http.send(self._http.build_request(**http_arguments(request, timeout)))
            case Open(request, timeout, as_events):
                return await self._begin(self._http.build_request(**http_arguments(request, timeout)), as_events)
            case Next():
                return await anext(self._items, None)
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Work(function):
                return await asyncio.to_thread(function)

    async def _begin(self, request: httpx2.Request, as_events: bool) -> httpx2.Response:
        await self.aclose()
        self._open = response = await self._http.send(request, stream=True)
        if not response.is_success:
            await response.aread()
        self._items = aiter(httpx2.EventSource(response)) if as_events else response.aiter_bytes()
        return response
