"""What a route demands of its callers: declared on the endpoint, checked by the route that answers.

The guard never reads the path, because the router may read the same path in another way. A route whose endpoint
declares nothing demands the scope `admin`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from recall_server.config.api_keys import Scope as KeyScope

GUARD = "recall.guard"  # key of the ASGI scope: the Gatekeeper of this application
DECLARED = "__access__"

Resource = Literal["queue", "threads"]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@final
@dataclass(frozen=True)
class Access:
    """The scope that the caller's key must have, and the resource that must have room for the request.

    `scope` None: the route is open to callers without a key.
    """

    scope: KeyScope | None = KeyScope.ADMIN
    resource: Resource | None = None


OPEN = Access(None)
READ = Access(KeyScope.READ)


class Gatekeeper(Protocol):
    """Decides whether a request may reach its route."""

    def admit(self, scope: Scope, needed: Access) -> None:
        """Raise a RecallError for a request that must not be answered."""


def access(needed: Access) -> Callable[[Endpoint], Endpoint]:
    """Declare what an endpoint demands of its callers."""

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, DECLARED, needed)
        return endpoint

    return declare


def access_of(endpoint: Callable[..., Any]) -> Access:
    """What the endpoint declares; the scope `admin` where it declares nothing."""
    declared = getattr(endpoint, DECLARED, None)
    return declared if isinstance(declared, Access) else Access()


class GuardedRoute(APIRoute):
    """A route that asks the gatekeeper before anything of the request is parsed or read."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an admitted request. Raises a RecallError for any other."""
        needed = access_of(self.endpoint)
        if needed.scope is not None and scope["method"] not in (self.methods or ()):
            needed = READ  # the answer is a 405
        _gatekeeper(scope).admit(scope, needed)
        await self.answer(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that was admitted."""
        await super().handle(scope, receive, send)


def guard_unknown_paths(app: FastAPI) -> None:
    """Demand a key for the 404 of a path without a route, as every route but the open ones does."""

    async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _gatekeeper(scope).admit(scope, READ)
        await app.router.not_found(scope, receive, send)

    app.router.default = not_found


def _gatekeeper(scope: Scope) -> Gatekeeper:
    gatekeeper: Gatekeeper = scope[GUARD]
    return gatekeeper
