"""Refuse a request body by its declared size, before any of it is read.

Starlette's RequestBodyLimitMiddleware counts what really arrives, but answers a declared size with plain text.
"""

from __future__ import annotations

from typing import final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from recall_server.api.problems import BODY_TOO_LARGE, problem_response


@final
class DeclaredBodyLimit:
    """413 as a problem document where Content-Length is more than `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        if not declared.isdecimal() or int(declared[:20]) <= self.max_bytes:
            return await self.app(scope, receive, send)
        detail = f"the request body has {declared[:20]} bytes, more than the {self.max_bytes} that are accepted"
        await problem_response(BODY_TOO_LARGE, detail, scope["path"])(scope, receive, send)
