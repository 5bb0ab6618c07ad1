"""/bundles and below: the loaded bundles, views of each memory, and bundles that clients hand in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from recall_server.api.guards.access import READ, Access, GuardedRoute, access
from recall_server.api.http.bodies import media_type
from recall_server.api.http.negotiation import accepted, check_conditions
from recall_server.api.http.problems import responses
from recall_server.api.routes.known_recalls import recall_response
from recall_server.api.schemas.bundle_schemas import (
    BasesAnswer,
    BasesParameters,
    BundleDetails,
    BundleList,
    BundleSummary,
    SimilarityAnswer,
    SimilarityParameters,
    bundle_details,
    bundle_summary,
)
from recall_server.api.schemas.schemas import CARD, MARKDOWN
from recall_server.api.state.answer_cache import Answer
from recall_server.api.state.context import Context, Served
from recall_server.config.api_keys import Scope
from recall_server.config.network_exposure import trusts_this_machine_only
from recall_server.core.bundle.manifest import NAME_PATTERN
from recall_server.core.reports.bundle_card import bundle_card
from recall_server.core.reports.contact_sheet import contact_sheet
from recall_server.core.reports.inspection import displayed_bases, sheet_rows
from recall_server.errors import Forbidden
from recall_server.library import HandedIn

BUNDLE_MEDIA_TYPES = ("application/vnd.safetensors", "application/octet-stream")
JSON, PNG = "application/json", "image/png"

router = APIRouter(tags=["bundles"], route_class=GuardedRoute)

BINARY = {"type": "string", "format": "binary"}
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "what If-None-Match names is still right"}}
BASES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the bases, by `format` or Accept as JSON or as a contact sheet",
        "model": BasesAnswer,
        "content": {PNG: {"schema": BINARY}},
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
    return Response(bundle_card(context.service.library.get(name).bundle), headers={"Content-Type": CARD})


@router.put(
    "/bundles/{name}",
    response_class=Response,
    responses={
        200: {"model": BundleSummary, "description": "another bundle of this name was replaced"},
        201: {"model": BundleSummary, "description": "there was no bundle of this name"},
        **responses(400, 404, 408, 409, 412, 413, 415, 422, 503, 507),
    },
    openapi_extra={
        "requestBody": {"required": True, "content": {each: {"schema": BINARY} for each in BUNDLE_MEDIA_TYPES}}
    },
)
@access(Access(Scope.ADMIN, "threads"))
async def put_bundle(request: Request, name: Annotated[str, Path(pattern=NAME_PATTERN)], context: Served) -> Response:
    """Verify a bundle, keep it in the server's folder, and serve it from now on.

    With `If-None-Match: *` nothing is replaced; with `If-Match: "SHA256"` only the bundle of this digest is.
    """
    handed_in = _handed_in(context)
    media_type(request, only=BUNDLE_MEDIA_TYPES)
    data = await request.body()
    loaded, new = await context.run(handed_in.put, name, data, partial(check_conditions, request.headers))
    summary = bundle_summary(loaded, context.settings.root_path)
    headers = {"ETag": f'"{loaded.sha256}"', "Location": str(summary.links["self"])}
    return Response(summary.model_dump_json(), status_code=201 if new else 200, media_type=JSON, headers=headers)


@router.delete("/bundles/{name}", status_code=204, responses=responses(404, 412, 422, 507))
@access(Access(Scope.ADMIN, "threads"))
async def delete_bundle(request: Request, name: str, context: Served) -> Response:
    """Remove a bundle from the server's folder. Classifiers that were trained from it stay."""
    await context.run(_handed_in(context).delete, name, partial(check_conditions, request.headers))
    return Response(status_code=204)


def _handed_in(context: Context) -> HandedIn:
    """What changes the folder of bundles. Raises Forbidden where nobody may."""
    settings, handed_in = context.settings, context.service.handed_in
    if not settings.keys and not trusts_this_machine_only(settings):
        raise Forbidden(
            "everybody who reaches this server may use it without a key, so nobody may change its bundles; "
            "set RECALL_API_KEYS, with a key of scope admin"
        )
    if handed_in is None:
        raise Forbidden("this server follows no folder of bundles")
    return handed_in


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
