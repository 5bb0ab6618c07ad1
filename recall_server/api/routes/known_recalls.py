"""GET /recall from the cache, before FastAPI parses the request.

Parsing a request costs more than finding its cached answer. The bytes of the query string and the header Accept decide
what is recalled and in which format, so together with the digests of the loaded bundles they are the key of the cache.
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

UNANSWERED = "recall.unanswered"  # key of the ASGI scope: the UnansweredRecall of a request that is not in the cache


class UnansweredRecall(NamedTuple):
    """The bundles to recall from, and the key of the answer in the cache.

    The loaded bundles may change before the answer is computed; an answer from other bundles must not get this key.
    """

    library: Library
    key: Hashable


class RecallRoute(GuardedRoute):
    """Answers a GET from the cache where possible. Otherwise notes an UnansweredRecall for the endpoint."""

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that was admitted."""
        if scope["method"] != "GET":
            return await super().answer(scope, receive, send)
        context: Context = scope["app"].state.context
        headers = Headers(scope=scope)
        library = context.service.library
        parts = _digests(library), library.aliases, scope["query_string"], headers.getlist("accept")
        key = hashlib.sha256(repr(parts).encode()).digest()  # of one length, however long the request is
        answer = context.cache.get(key)
        context.metrics.cache.labels("miss" if answer is None else "hit").inc()
        if answer is None:
            scope[UNANSWERED] = UnansweredRecall(library, key)
            return await super().answer(scope, receive, send)
        await recall_response(answer, headers)(scope, receive, send)


def _digests(library: Library) -> tuple[str, ...]:
    return tuple(loaded.sha256 for loaded in library.bundles.values())


def recall_response(answer: Answer, headers: Headers) -> Response:
    """The answer, or a 304 where If-None-Match names it. `no-cache` lets caches keep it and ask before using it."""
    fields = {"ETag": answer.etag, "Vary": "Accept", "Cache-Control": "no-cache"}
    if names_etag(headers, answer.etag):
        return Response(status_code=304, headers=fields)
    return Response(answer.content, media_type=answer.media_type, headers=fields)
