"""Input and output in the calling thread: coroutines that block and never suspend."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx2

from recall_client.connection.connection import Connection, T
from recall_client.connection.settings import Settings
from recall_client.messages.request import Request


class BlockingConnection(Connection):
    """Safe to share between threads."""

    def __init__(self, settings: Settings, transport: httpx2.BaseTransport | None = None) -> None:
        super().__init__(settings, transport)
        self._http = settings.make(httpx2.Client, transport)

    async def send(self, request: Request) -> httpx2.Response:
        return self._http.send(self._built(request))

    async def open(self, request: Request) -> httpx2.Response:
        response = self._http.send(self._built(request), stream=True)
        if not response.is_success:
            response.read()
        return response

    async def chunks(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        for chunk in response.iter_bytes():
            yield chunk

    async def events(self, response: httpx2.Response) -> AsyncGenerator[httpx2.ServerSentEvent, None]:
        for event in httpx2.EventSource(response):
            yield event

    async def release(self, response: httpx2.Response) -> None:
        response.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def offload(self, function: Callable[[], T]) -> T:
        return function()

    async def close(self) -> None:
        self._http.close()

    def _built(self, request: Request) -> Any:
        return self._http.build_request(**request.http_arguments(self.settings.timeout))
