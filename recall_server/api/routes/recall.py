"""GET and POST /recall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from recall_server.api.guards.access import READ, Access, access
from recall_server.api.guards.body_limit import release_body
from recall_server.api.http.bodies import FORM, JSON, body_schema, media_type, read_json
from recall_server.api.http.forms import read_pictures
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
from recall_server.recall.uploads import Picture, Upload
from recall_server.service import RecallOptions, RecallService

PNG = "image/png"
SAFETENSORS = "application/vnd.safetensors"
BYTES = "application/octet-stream"
FORMATS: dict[str, RecallFormat] = {JSON: "json", PNG: "png", SAFETENSORS: "safetensors", BYTES: "safetensors"}

Recall = Callable[[Upload], Recalled]

router = APIRouter(tags=["recall"], route_class=RecallRoute)

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "recalled images, by `format` or Accept as JSON, a contact sheet, or tensors in pixel space",
        "model": RecallAnswer,
        "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in (PNG, SAFETENSORS)},
    },
    **responses(406, 422),
}


NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "the version in If-None-Match is current"}}


@router.get("/recall", responses=ANSWERS | NOT_MODIFIED, response_class=Response)
@access(READ)
async def recall_labels(
    request: Request, parameters: Annotated[LabelRecallParameters, Query()], context: Served
) -> Response:
    """Recall images of labels from the loaded bundles that know them."""
    form = _format(request, parameters)
    unanswered: UnansweredRecall = request.scope[UNANSWERED]
    service, names, options = context.service, parameters.names(), parameters.options()
    if form == "png":  # features cannot be drawn
        options = replace(options, space="pixels")

    def recall(_: Upload) -> Recalled:
        return service.recall_labels(names, options, library=unanswered.library)

    answer = Answer.of(*await _answer(request, context, recall, form))
    context.cache.put(unanswered.key, answer)
    return recall_response(answer, request.headers)


@router.post(
    "/recall",
    responses=ANSWERS | responses(400, 408, 413, 415),
    response_class=Response,
    openapi_extra=body_schema(
        RecallBody.model_json_schema(), "pictures; those of parts with the same name are averaged into one query"
    ),
)
@access(Access(Scope.READ, "threads"))
async def recall_queries(
    request: Request, parameters: Annotated[RecallParameters, Query()], context: Served
) -> Response:
    """Recall images of mixtures of labels, of query vectors, or of pictures."""
    form = _format(request, parameters)
    if media_type(request) == FORM:
        pictures = await read_pictures(request, max_pictures=context.settings.max_pictures)
        recall = _recall_of_pictures(pictures, context.service, parameters.options())
    else:
        body = await read_json(request, RecallBody, context.parse)
        release_body(request)
        recall = _recall_of_queries(body, context.service, parameters.options())
    content, media = await _answer(request, context, recall, form)
    return Response(content, media_type=media, headers={"Vary": "Accept"})


def _recall_of_pictures(pictures: list[Picture], service: RecallService, options: RecallOptions) -> Recall:
    return lambda upload: service.recall_pictures(pictures, options, upload=upload)


def _recall_of_queries(body: RecallBody, service: RecallService, options: RecallOptions) -> Recall:
    """The recall of the body's queries. Raises InvalidRequest unless there is exactly one kind of them."""
    mixtures, vectors = body.mixtures, body.vectors
    if mixtures is not None and vectors is None:
        return lambda _: service.recall_mixtures(mixtures, options)
    if vectors is not None and mixtures is None:
        return lambda _: service.recall_vectors(vectors, options)
    raise InvalidRequest("send either 'mixtures' or 'vectors'", parameter="mixtures")


def _format(request: Request, parameters: RecallParameters) -> RecallFormat:
    return parameters.format or FORMATS[accepted(request, list(FORMATS))]


async def _answer(request: Request, context: Context, recall: Recall, form: RecallFormat) -> tuple[bytes, str]:
    """Content and media type of the answer. The caller is charged for recalled images even if sending fails."""
    computed = 0

    def make(
        upload: Upload,
    ) -> tuple[bytes, str]:  # recalled and encoded in one thread: changing threads costs as much as a small recall
        nonlocal computed
        recalled = recall(upload)
        computed = recalled.images
        return _encode(recalled, form)

    try:
        return await context.run_for(request, make)
    finally:
        context.metrics.recalled_images.inc(computed)
        context.pay(request, computed)


def _encode(recalled: Recalled, form: RecallFormat) -> tuple[bytes, str]:
    if form == "png":
        return recalled.to_contact_sheet(), PNG
    if form == "safetensors":
        return recalled.to_safetensors(), SAFETENSORS
    return RecallAnswer.of(recalled).model_dump_json().encode(), JSON
