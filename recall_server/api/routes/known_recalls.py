"""GET /recall from the cache: answered before the framework takes the request apart.

The bytes of the query and the header Accept decide what is asked for and in which form, so that they can stand for
both. Taking a request apart costs more than finding its answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import NamedTuple, final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recall_server.api.http.negotiation import names_etag
from recall_server.api.state.answer_cache import Answer
from recall_server.api.state.context import ROUTE, Context
from recall_server.library.library import Library

PATH = "/recall"
ASKED = "recall.asked"  # the key of the ASGI scope under which a request that is not known is described


class UnansweredRecall(NamedTuple):
    """A recall that must be computed: from which bundles, and the key under which its answer is to be kept.

    The bundles loaded may be others a moment later, and an answer of theirs must not be kept under this key.
    """

    library: Library
    key: Hashable


@final
class KnownRecalls:
    """Answers with what is known, else leaves an `Asked` in the scope and passes the request on."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app, self._context = app, context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "GET":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        library = self._context.service.library
        asked = _digests(library), library.aliases, scope["query_string"], headers.getlist("accept")
        key = hashlib.sha256(repr(asked).encode()).digest()  # as short for a long request as for any other
        answer = self._context.cache.get(key)
        self._context.metrics.cache.labels("miss" if answer is None else "hit").inc()
        if answer is None:
            scope[ASKED] = UnansweredRecall(library, key)
            return await self.app(scope, receive, send)
        scope[ROUTE] = PATH
        await recall_response(answer, headers)(scope, receive, send)


def _digests(library: Library) -> tuple[str, ...]:
    return tuple(loaded.sha256 for loaded in library.bundles.values())


def recall_response(answer: Answer, headers: Headers) -> Response:
    """The answer, or a 304 where the caller has it. `no-cache`: keep it, but ask before using it again."""
    fields = {"ETag": answer.etag, "Vary": "Accept", "Cache-Control": "no-cache"}
    if names_etag(headers, answer.etag):
        return Response(status_code=304, headers=fields)
    return Response(answer.content, media_type=answer.media_type, headers=fields)
