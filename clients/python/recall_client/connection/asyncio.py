"""Input and output in an event loop of asyncio; files and pictures are worked on in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx2

from recall_client.connection.connection import Connection, T
from recall_client.connection.settings import Settings
from recall_client.messages.request import Request


class AsyncioConnection(Connection):
    """For the tasks of one event loop."""

    def __init__(self, settings: Settings, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__(settings, transport)
        self._http = settings.make(httpx2.AsyncClient, transport)

    async def send(self, request: Request) -> httpx2.Response:
        return await self._http.send(self._built(request))

    async def open(self, request: Request) -> httpx2.Response:
        response = await self._http.send(self._built(request), stream=True)
        if not response.is_success:
            await response.aread()
        return response

    async def chunks(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        async for chunk in response.aiter_bytes():
            yield chunk

    async def events(self, response: httpx2.Response) -> AsyncGenerator[httpx2.ServerSentEvent, None]:
        async for event in httpx2.EventSource(response):
            yield event

    async def release(self, response: httpx2.Response) -> None:
        await response.aclose()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def offload(self, function: Callable[[], T]) -> T:
        return await asyncio.to_thread(function)

    async def close(self) -> None:
        await self._http.aclose()

    def _built(self, request: Request) -> Any:
        return self._http.build_request(**request.http_arguments(self.settings.timeout))
