"""The path prefix below which a proxy serves this application."""

from __future__ import annotations

from typing import final

from starlette.types import ASGIApp, Receive, Scope, Send


@final
class Prefixed:
    """Puts the prefix, which the proxy has removed, back into the path of each request.

    Redirects and problem documents then name the address that the caller used. The router ignores the prefix.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._prefix:
            scope["root_path"] = self._prefix
            scope["path"] = self._prefix + scope["path"]
            if "raw_path" in scope:
                scope["raw_path"] = self._prefix.encode() + scope["raw_path"]
        await self.app(scope, receive, send)
