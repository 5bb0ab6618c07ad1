"""GET and POST /recall."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from recall_server.api.guards.access import READ, Access, access
from recall_server.api.guards.body_limit import release_body
from recall_server.api.http.bodies import FORM, JSON, body_schema, media_type, read_json, read_pictures
from recall_server.api.http.negotiation import accepted
from recall_server.api.http.problems import responses
from recall_server.api.routes.known_recalls import UNANSWERED, RecallRoute, UnansweredRecall, recall_response
from recall_server.api.schemas.schemas import (
    LabelRecallParameters,
    RecallAnswer,
    RecallBody,
    RecallFormat,
    RecallParameters,
)
from recall_server.api.state.answer_cache import Answer
from recall_server.api.state.context import Context, Served
from recall_server.config.api_keys import Scope
from recall_server.errors import InvalidRequest
from recall_server.recall.recalled import Recalled

PNG = "image/png"
SAFETENSORS = "application/vnd.safetensors"
BYTES = "application/octet-stream"
FORMATS: dict[str, RecallFormat] = {JSON: "json", PNG: "png", SAFETENSORS: "safetensors", BYTES: "safetensors"}

router = APIRouter(tags=["recall"], route_class=RecallRoute)

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "recalled images, by `format` or Accept as JSON, a contact sheet, or tensors in pixel space",
        "model": RecallAnswer,
        "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in (PNG, SAFETENSORS)},
    },
    **responses(406, 422),
}


NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "what If-None-Match names is still right"}}


@router.get("/recall", responses=ANSWERS | NOT_MODIFIED, response_class=Response)
@access(READ)
async def recall_labels(
    request: Request, parameters: Annotated[LabelRecallParameters, Query()], context: Served
) -> Response:
    """Recalled images of labels, from whichever loaded bundles know them."""
    form = _format(request, parameters)
    unanswered: UnansweredRecall = request.scope[UNANSWERED]
    recall = partial(
        context.service.recall_labels, parameters.names(), parameters.options(), library=unanswered.library
    )
    answer = Answer.of(*await _made(request, context, recall, form))
    context.cache.put(unanswered.key, answer)
    return recall_response(answer, request.headers)


@router.post(
    "/recall",
    responses=ANSWERS | responses(400, 408, 413, 415),
    response_class=Response,
    openapi_extra=body_schema(RecallBody.model_json_schema(), "pictures; parts of one name are averaged to one query"),
)
@access(Access(Scope.READ, "threads"))
async def recall_queries(
    request: Request, parameters: Annotated[RecallParameters, Query()], context: Served
) -> Response:
    """Recalled images of mixtures of labels, of query vectors, or of pictures."""
    form = _format(request, parameters)
    service, options = context.service, parameters.options()
    if media_type(request) == FORM:
        pictures = await read_pictures(request, max_pictures=context.settings.max_pictures)
        recall = partial(service.recall_pictures, pictures, options)
    else:
        body = await read_json(request, RecallBody, context.parsers)
        release_body(request)
        if body.mixtures is not None and body.vectors is None:
            recall = partial(service.recall_mixtures, body.mixtures, options)
        elif body.vectors is not None and body.mixtures is None:
            recall = partial(service.recall_vectors, body.vectors, options)
        else:
            raise InvalidRequest("send either 'mixtures' or 'vectors'", parameter="mixtures")
    content, media = await _made(request, context, recall, form)
    return Response(content, media_type=media, headers={"Vary": "Accept"})


def _format(request: Request, parameters: RecallParameters) -> RecallFormat:
    return parameters.format or FORMATS[accepted(request, list(FORMATS))]


async def _made(
    request: Request, context: Context, recall: Callable[[], Recalled], form: RecallFormat
) -> tuple[bytes, str]:
    """Content and media type, made in a thread, for encoding PNGs takes a while; what is recalled is paid for."""
    computed = 0

    def make() -> tuple[bytes, str]:  # one way to a thread and back: it costs as much as a small recall
        nonlocal computed
        recalled = recall()
        computed = recalled.images
        return _encode(recalled, form)

    try:
        return await context.run(make)
    finally:  # whatever became of it
        context.metrics.recalled_images.inc(computed)
        context.pay(request, computed)


def _encode(recalled: Recalled, form: RecallFormat) -> tuple[bytes, str]:
    if form == "png":
        return recalled.to_contact_sheet(), PNG
    if form == "safetensors":
        return recalled.to_safetensors(), SAFETENSORS
    return RecallAnswer.of(recalled).model_dump_json().encode(), JSON
