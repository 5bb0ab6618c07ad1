"""GET /recall from the cache, before FastAPI parses the request.

Parsing a request costs more than looking up its answer. The query string, the header Accept and the digests of the
loaded bundles determine the answer, so they are the key of the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from recall_server.api.guards.access import GuardedRoute
from recall_server.api.http.negotiation import names_etag
from recall_server.api.state.answer_cache import Answer
from recall_server.api.state.context import Context
from recall_server.library.library import Library

UNANSWERED = "recall.unanswered"  # key in the ASGI scope of the UnansweredRecall


class UnansweredRecall(NamedTuple):
    """The bundles to recall from, and the cache key of the answer.

    The loaded bundles may change before the answer is computed; an answer from other bundles must not get this key.
    """

    library: Library
    key: Hashable


class RecallRoute(GuardedRoute):
    """Answers a GET from the cache if possible, else leaves an UnansweredRecall for the endpoint."""

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an admitted request."""
        if scope["method"] != "GET":
            return await super().answer(scope, receive, send)
        context: Context = scope["app"].state.context
        headers = Headers(scope=scope)
        library = context.service.library
        parts = _digests(library), library.aliases, scope["query_string"], headers.getlist("accept")
        key = hashlib.sha256(repr(parts).encode()).digest()  # of the same length for every request
        answer = context.cache.get(key)
        context.metrics.cache.labels("miss" if answer is None else "hit").inc()
        if answer is None:
            scope[UNANSWERED] = UnansweredRecall(library, key)
            return await super().answer(scope, receive, send)
        await recall_response(answer, headers)(scope, receive, send)


def _digests(library: Library) -> tuple[str, ...]:
    return tuple(loaded.sha256 for loaded in library.bundles.values())


def recall_response(answer: Answer, headers: Headers) -> Response:
    """The answer, or a 304 if If-None-Match names it. With `no-cache`, caches keep it but revalidate it."""
    fields = {"ETag": answer.etag, "Vary": "Accept", "Cache-Control": "no-cache"}
    if names_etag(headers, answer.etag):
        return Response(status_code=304, headers=fields)
    return Response(answer.content, media_type=answer.media_type, headers=fields)
