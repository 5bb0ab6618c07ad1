"""Around every request: an id, one line in the log, what is measured, and the headers that every answer carries."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recall_server.api.http.problems import unforeseen
from recall_server.api.state.context import CALLER
from recall_server.api.state.metrics import Metrics

REQUEST_ID = "X-Request-ID"
LEGIBLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # others are replaced: an id is written into logs as it is
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
QUIET = ("/health/", "/v2/health/", "/metrics")  # asked every few seconds by machines

# What is sent is data. Should a browser show it all the same, it runs nothing, embeds nothing and sends nothing on.
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
    """The outermost layer. An error that nobody foresaw ends here, in the log with its trace and in a bare 500."""

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
            logger.info("the caller went away before the request was whole")
        except Exception:
            logger.exception("an error that nobody foresaw")
            if answer.status is not None:
                raise  # half an answer is out: only a broken connection says that it is not whole
            await unforeseen(scope["path"])(scope, receive, answer)
        finally:
            self._tell(scope, answer.status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int | None, seconds: float) -> None:
        route, method = route_of(scope), scope["method"] if scope["method"] in METHODS else "other"
        outcome = "none" if status is None else str(status)
        self._metrics.requests.labels(method, route, outcome).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        level = logging.DEBUG if scope["path"].startswith(QUIET) else logging.INFO
        if logger.isEnabledFor(level):
            fields = {"method": method, "route": route, "status": outcome, "seconds": round(seconds, 4)}
            logger.log(level, "request", extra=fields | {"caller": scope.get(CALLER, "unknown")})


@final
class _Answer:
    """`send`, with the headers of every answer, and a memory of the status."""

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
    """The template of the route that answered, as in `/classifier/{identifier}`; never what a caller made up."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "none"


def _request_id(sent: str | None) -> str:
    return sent if sent is not None and LEGIBLE_ID.fullmatch(sent) else uuid.uuid4().hex
