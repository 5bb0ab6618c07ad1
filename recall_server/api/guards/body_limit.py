"""Limits of request bodies: how large, how many bytes of them at once, and how slowly they may arrive.

Starlette's RequestBodyLimitMiddleware counts what really arrives, but answers a declared size with plain text.
"""

from __future__ import annotations

import asyncio
from typing import final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recall_server.api.http.problems import BODY_TOO_LARGE, PROBLEMS, STATUSES, ProblemType, problem_response
from recall_server.errors import Overloaded

SMALL = 2**16  # bytes: bodies up to here are let in whatever else is on its way
AT_ONCE = 4  # bodies of the largest size that may be held at a time
RELEASE = "recall.release"  # the key of the ASGI scope: call it once the body is held no longer
TIME_OUT = "the request body took longer than this server waits for it"


@final
class BodyLimits:
    """413 for a declared size over `max_bytes`, 429 where too much is arriving already, 408 for what dawdles.

    And 400 for two lengths at once.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_seconds: float) -> None:
        self.app, self.max_bytes, self.max_seconds = app, max_bytes, max_seconds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = self._announced(scope) if scope["type"] == "http" else 0
        if size == 0:
            return await self.app(scope, receive, send)
        reserved = size if size > SMALL else 0
        refusal = self._refusal(scope, size, reserved)
        if refusal is not None:
            return await refusal(scope, receive, send)
        self._held += reserved

        def release() -> None:
            nonlocal reserved
            self._held, reserved = self._held - reserved, 0

        scope[RELEASE] = release
        try:
            body = _Body(receive, send, self.max_seconds)
            await self.app(scope, body.receive, body.send)
        finally:
            release()

    def _announced(self, scope: Scope) -> int:
        """Bytes that may come: what is declared, or the most that is accepted where nothing is."""
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers:
            return self.max_bytes
        declared = headers.get("content-length", "")
        if not declared.isdecimal():
            return self.max_bytes if declared else 0
        return int(declared[:20])

    def _refusal(self, scope: Scope, size: int, reserved: int) -> Response | None:
        """The answer to a body that is not to be read; None for one that is."""
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            # Whoever stands in front of this server may have gone by the other of the two (RFC 9112, section 6.1).
            return self._problem(STATUSES[400], "the request says twice how long its body is", scope)
        if size > self.max_bytes:
            detail = f"the request body has {size} bytes, more than the {self.max_bytes} that are accepted"
            return self._problem(BODY_TOO_LARGE, detail, scope)
        if self._held + reserved > AT_ONCE * self.max_bytes:
            return self._problem(PROBLEMS[Overloaded], "too many large request bodies are on their way already", scope)
        return None

    def _problem(self, known: ProblemType, detail: str, scope: Scope) -> Response:
        headers = {"Connection": "close"} | ({"Retry-After": "2"} if known is PROBLEMS[Overloaded] else {})
        return problem_response(known, detail, scope["path"], headers=headers)


@final
class _Body:
    """One body on its way: whole within so many seconds, and the connection is closed if the answer comes before that.

    Otherwise the connection would stay open for as long as the caller likes, with nobody to read the rest.
    """

    def __init__(self, receive: Receive, send: Send, seconds: float) -> None:
        self._receive, self._send = receive, send
        self._deadline: float | None = asyncio.get_running_loop().time() + seconds

    async def receive(self) -> Message:
        """The next piece; once the body is whole, whatever comes, without a limit. Raises a 408."""
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408, TIME_OUT) from error
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._deadline = None
        return message

    async def send(self, message: Message) -> None:
        """Pass a piece of the answer on."""
        if message["type"] == "http.response.start" and self._deadline is not None:
            MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)
