"""What a client does beyond computing: requests, pauses, work in threads. Two implementations, no decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

import httpx2

from recall_client.connection.settings import Settings
from recall_client.messages.request import Request

T = TypeVar("T")


class Connection(ABC):
    """A pool of HTTP connections to one server. A copy, or one that was pickled, has a pool of its own."""

    def __init__(self, settings: Settings, transport: Any = None) -> None:
        """`transport` replaces the network: a transport of httpx2 of the same kind."""
        self.settings, self._transport = settings, transport

    def __reduce__(self) -> tuple[type[Connection], tuple[Settings, Any]]:
        return type(self), (self.settings, self._transport)

    @abstractmethod
    async def send(self, request: Request) -> httpx2.Response:
        """Return the answer, fully read. Raises httpx2.RequestError."""

    @abstractmethod
    async def open(self, request: Request) -> httpx2.Response:
        """Return the answer with an unread body, unless it is an error. Raises httpx2.RequestError."""

    @abstractmethod
    def chunks(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body of an open answer. Raises httpx2.RequestError."""

    @abstractmethod
    def events(self, response: httpx2.Response) -> AsyncGenerator[httpx2.ServerSentEvent, None]:
        """Yield the events of an open answer. Raises httpx2.RequestError."""

    @abstractmethod
    async def release(self, response: httpx2.Response) -> None:
        """Close an open answer."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Pause."""

    @abstractmethod
    async def offload(self, function: Callable[[], T]) -> T:
        """Return the result of a function that reads files or decodes pictures."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections."""
