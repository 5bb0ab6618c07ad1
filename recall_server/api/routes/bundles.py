"""GET /bundles and below: the loaded bundles, and views of each memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from recall_server.api.guards.access import READ, GuardedRoute, access
from recall_server.api.http.negotiation import accepted
from recall_server.api.http.problems import responses
from recall_server.api.routes.known_recalls import recall_response
from recall_server.api.schemas.bundle_schemas import (
    BasesAnswer,
    BasesParameters,
    BundleDetails,
    BundleList,
    SimilarityAnswer,
    SimilarityParameters,
    bundle_details,
    bundle_summary,
)
from recall_server.api.schemas.schemas import CARD, MARKDOWN
from recall_server.api.state.answer_cache import Answer
from recall_server.api.state.context import Context, Served
from recall_server.core.reports.contact_sheet import contact_sheet
from recall_server.core.reports.inspection import displayed_bases, sheet_rows

JSON, PNG = "application/json", "image/png"

router = APIRouter(tags=["bundles"], route_class=GuardedRoute)

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "what If-None-Match names is still right"}}
BASES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the bases, by `format` or Accept as JSON or as a contact sheet",
        "model": BasesAnswer,
        "content": {PNG: {"schema": {"type": "string", "format": "binary"}}},
    }
}
SIMILARITY: dict[int | str, dict[str, Any]] = {200: {"description": "the table", "model": SimilarityAnswer}}


@router.get("/bundles")
@access(READ)
async def list_bundles(context: Served) -> BundleList:
    """List all loaded bundles in the order of their names."""
    library = context.service.library
    return BundleList(
        bundles=[bundle_summary(loaded, context.settings.root_path) for loaded in library.bundles.values()],
        aliases={name: list(meanings) for name, meanings in library.aliases.items()},
    )


@router.get("/bundles/{name}", responses=responses(404, 422))
@access(READ)
async def show_bundle(name: str, context: Served) -> BundleDetails:
    """Return one bundle with its whole manifest: accuracy, provenance, retraining."""
    return bundle_details(context.service.library.get(name), context.settings.root_path)


@router.get("/bundles/{name}/bases", response_class=Response, responses=BASES | NOT_MODIFIED | responses(404, 406, 422))
@access(READ)
async def show_bases(
    request: Request, name: str, parameters: Annotated[BasesParameters, Query()], context: Served
) -> Response:
    """Return the stored bases of a memory as pictures, each stretched to its own range."""
    loaded = context.service.library.get(name)
    form = parameters.format or ("png" if accepted(request, (JSON, PNG)) == PNG else "json")

    def make() -> Answer:
        if form == "png":
            return Answer.of(contact_sheet(sheet_rows(displayed_bases(loaded.bundle))), PNG)
        return Answer.of(BasesAnswer.of(loaded).model_dump_json().encode(), JSON)

    return await _cached(request, context, ("bases", loaded.sha256, loaded.name, form), make)


@router.get(
    "/bundles/{name}/similarity", response_class=Response, responses=SIMILARITY | NOT_MODIFIED | responses(404, 422)
)
@access(READ)
async def show_similarity(
    request: Request, name: str, parameters: Annotated[SimilarityParameters, Query()], context: Served
) -> Response:
    """Return the cosine similarity of the coefficients of a memory's labels."""
    loaded, names = context.service.library.get(name), parameters.names()

    def make() -> Answer:
        return Answer.of(SimilarityAnswer.of(loaded, names).model_dump_json().encode(), JSON)

    return await _cached(request, context, ("similarity", loaded.sha256, loaded.name, names), make)


@router.get("/bundles/{name}/card", response_class=Response, responses=MARKDOWN | responses(404, 422))
@access(READ)
async def show_card(name: str, context: Served) -> Response:
    """Return the bundle's card in Markdown: what it is, its accuracy, and what not to use it for."""
    return Response(context.service.bundle_card(name), headers={"Content-Type": CARD})


async def _cached(
    request: Request, context: Context, asked: tuple[object, ...], make: Callable[[], Answer]
) -> Response:
    """The answer for `asked`, on which alone it depends: from the cache, or made in a thread and cached."""
    key = hashlib.sha256(repr(asked).encode()).digest()  # of the same length for every request
    answer = context.cache.get(key)
    if answer is None:
        answer = await context.run(make)
        context.cache.put(key, answer)
    return recall_response(answer, request.headers)
