"""Limits of answers: how slowly a caller may read one, and how many bytes of all large answers wait to be read.

A server hands an answer to the operating system as fast as the caller reads it, and keeps the rest. Callers who ask for
large answers and never read them would otherwise hold the memory for as long as they like.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recall_server.api.http.problems import recall_problem
from recall_server.api.state.context import CALLER
from recall_server.errors import Overloaded

PIECE = 2**16  # bytes that are handed over at a time; the next piece waits until most of it has been read
GRACE = 30.0  # seconds that a caller may be behind
SLOWEST = 2**15  # bytes a second; a caller that reads more slowly falls behind
LARGE = 2**20  # bytes; smaller answers do not count
AT_ONCE = 256 * 2**20  # bytes of large answers that wait to be read
OF_ONE_CALLER = AT_ONCE // 2


@final
class AnswerPace:
    """Ends an answer that is read too slowly; 429 for a large answer while too many others wait to be read."""

    def __init__(self, app: ASGIApp, grace: float = GRACE) -> None:
        self.app, self._grace = app, grace
        self.waiting: Counter[str] = Counter()  # bytes, by caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        answer = _Answer(self.waiting, scope, receive, send, self._grace)
        try:
            await self.app(scope, receive, answer.send)
        finally:
            answer.end()


@final
class _Answer:
    """One answer on its way, and the time that its caller has kept the server waiting."""

    def __init__(self, waiting: Counter[str], scope: Scope, receive: Receive, send: Send, grace: float) -> None:
        self._waiting, self._scope, self._receive, self._send = waiting, scope, receive, send
        self._grace = self._left = grace
        self._size = 0
        self._caller = ""
        self._refused = False

    async def send(self, message: Message) -> None:
        """Pass a message on, a large body in pieces. Raises ClientDisconnect for a caller that does not read."""
        if self._refused:
            return
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] == "http.response.body":
            await self._body(message)
        else:
            await self._send(message)

    def end(self) -> None:
        """The answer is out, or given up."""
        self._waiting[self._caller] -= self._size
        if not self._waiting[self._caller]:
            del self._waiting[self._caller]
        self._size = 0

    async def _start(self, message: Message) -> None:
        declared = Headers(raw=message["headers"]).get("content-length", "0")
        size = int(declared) if declared.isdecimal() else 0
        if size > LARGE:
            self._caller = self._scope.get(CALLER, "")
            held, mine = self._waiting.total(), self._waiting[self._caller]
            if held and (held + size > AT_ONCE or (mine and mine + size > OF_ONE_CALLER)):
                self._refused = True
                error = Overloaded("too many large answers are still being read", retry_after=2)
                return await recall_problem(error, self._scope["path"])(self._scope, self._receive, self._send)
            self._waiting[self._caller] += size
            self._size = size
        await self._send(message)

    async def _body(self, message: Message) -> None:
        body = memoryview(message.get("body", b""))
        for start in range(0, max(1, len(body)), PIECE):
            last = start + PIECE >= len(body)
            more = message.get("more_body", False) if last else True
            await self._hand_over(bytes(body[start : start + PIECE]), more=more)

    async def _hand_over(self, piece: bytes, *, more: bool) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._left):
                await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        except TimeoutError as error:
            raise ClientDisconnect from error
        spared = len(piece) / SLOWEST - (loop.time() - began)
        self._left = min(self._grace, self._left + spared)
