"""Routes that are answered before FastAPI parses the request, since their answer is always the same.

Whoever watches the server asks for it all the time, and takes a late answer for a broken server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recall_server.api.guards.access import OPEN, access_of


@final
class Early:
    """Answers GET on `routes`, which must be open to everybody, with `content`, a JSON document."""

    def __init__(self, app: ASGIApp, routes: Iterable[APIRoute], content: bytes) -> None:
        self.app, self._content = app, content
        self._routes = {route.path: route for route in routes}
        assert all(access_of(route.endpoint) == OPEN for route in self._routes.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and scope["method"] == "GET"
        route = self._routes.get(scope["path"].removeprefix(scope.get("root_path", ""))) if asked else None
        if route is None:
            return await self.app(scope, receive, send)
        scope["route"] = route  # for the log and the metrics
        await Response(self._content, media_type="application/json")(scope, receive, send)
