"""Who is let in: decided from the head of a request alone, before any of its body is read.

A framework's dependencies run after the form was read, so that a stranger's megabytes would be taken in before the
answer is no. Therefore this is ASGI middleware. Health and the page stay open: whoever asks for them has no key yet.
"""

from __future__ import annotations

import re
from typing import final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from recall_server.api.guards.admission import Admission
from recall_server.api.http.problems import recall_problem
from recall_server.api.state.context import CALLER
from recall_server.config.api_keys import ApiKeys, check_scope
from recall_server.config.api_keys import Scope as KeyScope
from recall_server.errors import Forbidden, RecallError

OPEN = frozenset({"/", "/openapi.json", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"})
PAGE = "/web/"  # files that say nothing of this server's memories, and that one needs to type a key into
TRAINS = re.compile(r"/classifier(/[^/]+/cancel)?/?")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
THIS_MACHINE = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", re.IGNORECASE)


@final
class Guard:
    """401, 403, 429, 503 or 507 as a problem document, or the request with the name of its caller in its scope.

    `only_local`: a server without keys on a loopback address trusts whoever reaches it, and any page in a browser on
    this machine can. So requests that name another host (DNS rebinding), or that change something and come from
    another site, are refused.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, admission: Admission, *, only_local: bool) -> None:
        self.app, self._keys, self._admission, self._only_local = app, keys, admission, only_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        try:
            if self._only_local:
                _check_origin(scope["method"], headers)
            if scope["path"] not in OPEN and not scope["path"].startswith(PAGE):
                caller = self._caller(scope, headers)
                scope[CALLER] = caller
                self._admission.admit(scope["method"], scope["path"], caller)
        except RecallError as error:
            self._admission.refused(error)
            response = recall_problem(error, scope["path"], has_body=_has_body(headers))
            return await response(scope, receive, send)
        await self.app(scope, receive, send)

    def _caller(self, scope: Scope, headers: Headers) -> str:
        if not self._keys:
            client = scope.get("client")
            return f"address {client[0]}" if client else "address unknown"
        key = self._keys.identify(presented_key(headers))
        check_scope(key, needed_scope(scope["method"], scope["path"]))
        return f"key {key.name}"


def presented_key(headers: Headers) -> str | None:
    """The key of `X-API-Key`, or of `Authorization: Bearer`."""
    if (key := headers.get("x-api-key")) is not None:
        return key.strip()
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" and value.strip() else None


def needed_scope(method: str, path: str) -> KeyScope:
    """What a key must reach for this request. Paths that nothing is served at take no more than reading."""
    if method == "DELETE":
        return KeyScope.ADMIN
    return KeyScope.TRAIN if method == "POST" and TRAINS.fullmatch(path) else KeyScope.READ


def _check_origin(method: str, headers: Headers) -> None:
    host = headers.get("host", "")
    if not THIS_MACHINE.fullmatch(host):
        raise Forbidden(
            f"this server has no API keys and answers to its own machine only, not as {host[:100]!r}; "
            "set RECALL_API_KEYS, or RECALL_ALLOW_PUBLIC where everybody may use it"
        )
    origin = headers.get("origin")
    if method not in SAFE and origin is not None and origin.partition("://")[2] != host:
        raise Forbidden("a page of another site may not ask this server to do anything while it has no API keys")


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
