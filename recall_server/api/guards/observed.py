"""Middleware: request ids, one log line and metrics for each request, headers of every answer."""

from __future__ import annotations

import logging
import random
import re
import time
from typing import final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recall_server.api.http.problems import unforeseen
from recall_server.api.state.context import CALLER
from recall_server.api.state.metrics import Metrics

REQUEST_ID = "X-Request-ID"
LEGIBLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # others are replaced, because ids are written into logs unchanged
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
QUIET = ("/health/", "/v2/health/", "/metrics")  # polled every few seconds, so not logged at level info

# Answers are data. If a browser displays one, it must not run scripts, embed anything or send anything.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

logger = logging.getLogger(__name__)


@final
class Observed:
    """Logs and measures requests. An unexpected error is logged with its traceback and answered with a plain 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id = _request_id(Headers(scope=scope).get(REQUEST_ID))
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        answer = _Answer(send, request_id)
        began = time.perf_counter()
        try:
            with self._metrics.open_requests.track_inprogress():
                await self.app(scope, receive, answer)
        except ClientDisconnect:
            logger.info("the caller left before the request was complete")
        except Exception:
            logger.exception("unexpected error")
            if answer.status is not None:
                raise  # the answer has begun; only a broken connection tells the caller that it is incomplete
            await unforeseen(scope["path"])(scope, receive, answer)
        finally:
            self._tell(scope, answer.status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int | None, seconds: float) -> None:
        route, method = route_of(scope), scope["method"] if scope["method"] in METHODS else "other"
        outcome = "none" if status is None else str(status)
        self._metrics.requests.labels(method, route, outcome).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        level = logging.DEBUG if route.startswith(QUIET) else logging.INFO
        if logger.isEnabledFor(level):
            fields = {"method": method, "route": route, "status": outcome, "seconds": round(seconds, 4)}
            logger.log(level, "request", extra=fields | {"caller": scope.get(CALLER, "unknown")})


@final
class _Answer:
    """A `send` that adds the headers of every answer, and keeps the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self._request_id
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def route_of(scope: Scope) -> str:
    """The template of the route that answered, such as `/classifier/{identifier}`; "none" without a route."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "none"


def _request_id(sent: str | None) -> str:
    """The id that was sent, or a new one. It is no secret, so it needs no call of the operating system."""
    return sent if sent is not None and LEGIBLE_ID.fullmatch(sent) else f"{random.getrandbits(128):032x}"
