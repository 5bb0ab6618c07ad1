"""Who may use the server. Decided from the head of a request, before any of its body is read.

The checks that no route can waive run in this middleware. What depends on the route is checked when the matched route
calls `admit` (see `access.py`).
"""

from __future__ import annotations

import ipaddress
import re
from typing import final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from recall_server.api.guards.access import GUARD, Access
from recall_server.api.guards.admission import Admission
from recall_server.api.http.problems import NOTHING_HERE, STATUSES, problem_response, recall_problem
from recall_server.api.state.context import CALLER
from recall_server.config.api_keys import ApiKeys, check_scope
from recall_server.errors import Forbidden, RecallError

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
THIS_MACHINE = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", re.IGNORECASE)
OWN_PAGES = frozenset({"same-origin", "none"})  # what browsers say of the page, or the user, that a request is from
OTHER_SITE = "pages of another site may not send this request to a server without API keys"
# Regular expressions, logs and headers treat these characters specially. No route has them in its path.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@final
class Guard:
    """Refuses requests with 401, 403, 404, 429, 503 or 507, and notes the name of the caller in the ASGI scope.

    `only_local`: a server without keys on a loopback address trusts everybody who reaches it, and any page in a
    browser on the same machine does. Requests with another host name (DNS rebinding) and requests from pages of other
    origins are therefore refused.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, admission: Admission, *, only_local: bool) -> None:
        self.app, self._keys, self._admission, self._only_local = app, keys, admission, only_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        scope[GUARD] = self
        try:
            if self._only_local:
                _check_origin(scope["method"], Headers(scope=scope))
        except RecallError as error:
            self._admission.refused(error)
            return await recall_problem(error, scope["path"])(scope, receive, send)
        if CONTROL.search(scope["path"]):
            return await problem_response(STATUSES[404], NOTHING_HERE, scope["path"])(scope, receive, send)
        await self.app(scope, receive, send)

    def admit(self, scope: Scope, needed: Access) -> None:
        """Raise Unauthorised, Forbidden, Overloaded, Unavailable or StorageFailed where the route must not answer."""
        if needed.scope is None:
            return
        try:
            if self._only_local and Headers(scope=scope).get("sec-fetch-site", "none") not in OWN_PAGES:
                raise Forbidden(OTHER_SITE)  # also of a GET, for it may compute
            scope[CALLER] = self._caller(scope, needed)
            self._admission.admit(scope[CALLER], needed.resource)
        except RecallError as error:
            self._admission.refused(error)
            raise

    def _caller(self, scope: Scope, needed: Access) -> str:
        if not self._keys:
            return f"address {_address(scope)}"
        key = self._keys.identify(presented_key(Headers(scope=scope)))
        if needed.scope is not None:
            check_scope(key, needed.scope)
        return f"key {key.name}"


def _address(scope: Scope) -> str:
    """The address of the caller. A proxy passes on what callers claim to be, so only an address is believed."""
    try:
        return str(ipaddress.ip_address((scope.get("client") or ("",))[0]))
    except ValueError:
        return "unknown"


def presented_key(headers: Headers) -> str | None:
    """The key of `X-API-Key`, or of `Authorization: Bearer`; None where the request has neither."""
    if (key := headers.get("x-api-key")) is not None:
        return key.strip()
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" and value.strip() else None


def _check_origin(method: str, headers: Headers) -> None:
    host = headers.get("host")
    if host is not None and not THIS_MACHINE.fullmatch(host):  # every browser sends one
        raise Forbidden(
            f"this server has no API keys and answers only requests to this machine, not to {host[:100]!r}; "
            "set RECALL_API_KEYS, or RECALL_ALLOW_PUBLIC to let everybody use it"
        )
    origin = headers.get("origin")
    if method not in SAFE and origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        raise Forbidden(OTHER_SITE)
