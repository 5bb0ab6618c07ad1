"""Limits of request bodies: their size, the bytes held of all of them at once, and the time they take to arrive.

Bytes count from the moment they are received until the body has been used. What a request declares costs nothing, so a
caller that announces a large body and sends none of it keeps nobody out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import final

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recall_server.api.http.problems import BODY_TOO_LARGE, STATUSES, ProblemType, problem_response
from recall_server.api.state.context import CALLER
from recall_server.errors import Overloaded

SMALL = 2**16  # bytes of each body that are never counted, so that short requests always get in
AT_ONCE = 4  # bodies of the largest size that are held at a time
OF_ONE_CALLER = 2  # of these, so that nobody can keep the others out
SECONDS_TO_RETRY = 2
SECONDS_FOR_REST = 1.0  # in which the rest of a short body that nobody needs must arrive
RELEASE = "recall.release"  # key of the ASGI scope: call it once the body is not held any more
TIME_OUT = "the request body took longer than this server waits for it"


def release_body(request: Request) -> None:
    """Say that the bytes of the body are not held any more. Harmless to repeat."""
    if RELEASE in request.scope:
        request.scope[RELEASE]()


@final
class BodyLimits:
    """400 for two declared lengths, 408 for a slow body, 413 for a large one, 429 where too many bytes are held."""

    def __init__(self, app: ASGIApp, max_bytes: int, max_seconds: float) -> None:
        self.app, self.max_bytes, self.max_seconds = app, max_bytes, max_seconds
        self.held: Counter[str] = Counter()  # bytes, by caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if "transfer-encoding" not in headers and headers.get("content-length", "0") == "0":
            return await self.app(scope, receive, send)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            return await refusal(scope, receive, send)
        body = _Body(self, scope, receive, send, short=0 < _length(headers) <= SMALL)
        scope[RELEASE] = body.release
        try:
            await self.app(scope, body.receive, body.send)
        finally:
            body.release()
            del scope[RELEASE]  # `body` refers to `scope`: garbage in a cycle would wait for a full collection

    def hold(self, caller: str, size: int) -> None:
        """Count bytes of a body; raises Overloaded where too many are held."""
        for held, limit in ((self.held[caller], OF_ONE_CALLER), (self.held.total(), AT_ONCE)):
            if held + size > limit * self.max_bytes:
                raise Overloaded("too many large request bodies are on their way", retry_after=SECONDS_TO_RETRY)
        self.held[caller] += size

    def release(self, caller: str, size: int) -> None:
        """Undo `hold`."""
        self.held[caller] -= size
        if not self.held[caller]:
            del self.held[caller]

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a body that must not be read; None for one that may be."""
        declared = headers.get("content-length", "")
        if declared and "transfer-encoding" in headers:
            # A proxy may have taken the other of the two for the end of the request (RFC 9112, section 6.1).
            return _problem(STATUSES[400], "the request declares the length of its body twice", scope)
        if _length(headers) > self.max_bytes:
            detail = f"the request body has {_length(headers)} bytes, more than the {self.max_bytes} that are accepted"
            return _problem(BODY_TOO_LARGE, detail, scope)
        return None


@final
class _Body:
    """One body: counted while it is held, and complete within the time allowed.

    Before an answer that does not need the body, a short one is read to its end: a connection that is closed with
    unread bytes may lose the answer. Other bodies end with the connection, which would otherwise stay open for as long
    as the caller likes.
    """

    def __init__(self, limits: BodyLimits, scope: Scope, receive: Receive, send: Send, *, short: bool) -> None:
        self._limits, self._scope, self._receive, self._send = limits, scope, receive, send
        self._short = short
        self._deadline: float | None = asyncio.get_running_loop().time() + limits.max_seconds
        self._received = self._held = 0
        self._caller = ""

    async def receive(self) -> Message:
        """The next piece. Once the body is complete, the next message without a limit of time.

        Raises a 408, 413 or 429.
        """
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408, TIME_OUT) from error
        if message["type"] == "http.request":
            self._hold(len(message.get("body", b"")))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._deadline = None
        return message

    async def send(self, message: Message) -> None:
        """Pass a piece of the answer on. The body is not needed any more."""
        if message["type"] == "http.response.start":
            self.release()
            if self._short and self._deadline is not None:
                await self._read_rest()
            if self._deadline is not None:
                MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)

    def release(self) -> None:
        """The bytes received are not held any more."""
        if self._held:
            self._limits.release(self._caller, self._held)
        self._held = 0

    async def _read_rest(self) -> None:
        with contextlib.suppress(TimeoutError, HTTPException):
            async with asyncio.timeout(SECONDS_FOR_REST):
                while self._deadline is not None:
                    await self.receive()

    def _hold(self, size: int) -> None:
        self._caller = self._scope.get(CALLER, "")
        counted = max(0, self._received + size - SMALL) - max(0, self._received - SMALL)
        self._received += size
        if self._received > self._limits.max_bytes:
            raise HTTPException(413)
        if counted:
            self._limits.hold(self._caller, counted)
            self._held += counted


def _length(headers: Headers) -> int:
    """The declared length in bytes; 0 where there is none that can be read."""
    declared = headers.get("content-length", "")
    return int(declared[:20]) if declared.isascii() and declared.isdecimal() else 0


def _problem(known: ProblemType, detail: str, scope: Scope) -> Response:
    return problem_response(known, detail, scope["path"], headers={"Connection": "close"})
