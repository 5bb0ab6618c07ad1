"""/classifier and below: training requests and their classifiers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from recall_server.api.guards.access import READ, Access, GuardedRoute, access
from recall_server.api.guards.body_limit import release_body
from recall_server.api.http.bodies import FORM, body_schema, form_of, media_type, read_json
from recall_server.api.http.forms import read_pictures
from recall_server.api.http.negotiation import idempotency_key, names_etag, preferred_wait
from recall_server.api.http.problems import responses
from recall_server.api.http.unlabelled import PART, read_unlabelled
from recall_server.api.schemas.classifier_schemas import (
    ClassifierAnswer,
    ClassifierList,
    PredictionEntry,
    Predictions,
    classifier_path,
)
from recall_server.api.schemas.schemas import CARD, MARKDOWN, LabelsBody, TrainParameters
from recall_server.api.state.context import CALLER, Context, Served
from recall_server.config.api_keys import Scope
from recall_server.core.classifier.familiarity import NONE_BELOW
from recall_server.errors import InvalidRequest
from recall_server.jobs.rows.records import ClassifierRecord, JobStatus
from recall_server.recall import Upload
from recall_server.service.loaded_classifiers import check_predictor
from recall_server.service.predictions import LISTED_CLASSES, Prediction, listed_classes
from recall_server.service.requests import Caller, DownloadFormat, TrainingReceipt

STREAMED = 250  # probabilities in one piece of an answer, which takes the event loop half a millisecond
TOP = f"the number of most probable classes in each prediction; default: all, at most {LISTED_CLASSES}"
NONE = "the familiarity below which a picture is said to show none of the classes"
MEDIA_TYPES: dict[DownloadFormat, str] = {
    "safetensors": "application/vnd.safetensors",
    "onnx": "application/vnd.onnx",
}

Value = TypeVar("Value")

router = APIRouter(tags=["classifiers"], route_class=GuardedRoute)

ANSWER: dict[str, Any] = {"model": ClassifierAnswer}


@router.post(
    "/classifier",
    status_code=202,
    response_class=Response,
    responses={
        201: {**ANSWER, "description": "trained within the time of `Prefer: wait`"},
        202: {**ANSWER, "description": "accepted; Location has its address"},
        **responses(400, 408, 409, 413, 415, 422, 503, 507),
    },
    openapi_extra=body_schema(LabelsBody.model_json_schema(), "pictures; the name of each part is its class"),
)
@access(Access(Scope.TRAIN, "queue"))
async def train(request: Request, parameters: Annotated[TrainParameters, Query()], context: Served) -> Response:
    """Train a fresh classifier from labels, or from a few pictures of each class, which may stand beside labels."""
    asked = Caller(idempotency_key=idempotency_key(request), caller=request.scope.get(CALLER))
    accept = _accept_pictures if media_type(request) == FORM else _accept_labels
    accepted = await accept(request, parameters, context, asked)
    release_body(request)
    context.pay(request, accepted.work)
    return await _answer_after_wait(request, context, accepted.record, created=True)


async def _accept_pictures(
    request: Request, parameters: TrainParameters, context: Context, asked: Caller
) -> TrainingReceipt:
    pictures = await read_pictures(request, max_pictures=context.settings.max_pictures)
    context.pay(request, len(pictures))

    def accept(upload: Upload) -> TrainingReceipt:
        return context.service.train_pictures(
            pictures,
            bundle=parameters.bundle,
            addressing=parameters.addressing or "auto",
            own_pictures=parameters.own_pictures is not False,
            seed=parameters.seed or 0,
            labels=parameters.names(),
            asked=asked,
            upload=upload,
        )

    return await context.run_for(request, accept, submits=True)


async def _accept_labels(
    request: Request, parameters: TrainParameters, context: Context, asked: Caller
) -> TrainingReceipt:
    for name in ("addressing", "own_pictures", "labels"):
        if getattr(parameters, name) is not None:
            raise InvalidRequest(f"{name} is an option for pictures; this request names labels", parameter=name)
    body = await read_json(request, LabelsBody, context.parse)
    bundle = _one_value("bundle", parameters.bundle, body.bundle)
    seed = _one_value("seed", parameters.seed, body.seed)
    return await context.submit(
        context.service.train_labels, body.labels, bundle=bundle, strict=body.strict, seed=seed or 0, asked=asked
    )


@router.get(
    "/classifier",
    response_class=Response,
    responses={200: {"model": ClassifierList, "description": "a page"}, **responses(422, 507)},
)
@access(READ)
async def list_classifiers(
    context: Served,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the previous page")] = None,
) -> Response:
    """List classifiers, newest first, in pages; unfinished ones too."""

    def page_json() -> bytes:  # in a thread, because a page may be long
        jobs = context.service.jobs
        page = jobs.page(limit, cursor)
        return ClassifierList.json_of(context.written.of(page.entries, jobs.records, written), page.next)

    def written(record: ClassifierRecord) -> str:
        return ClassifierAnswer.of(record, context.settings.root_path).model_dump_json()

    return Response(await context.look(page_json), media_type="application/json")


@router.get(
    "/classifier/{identifier}",
    response_class=Response,
    responses={200: {**ANSWER, "description": "its current state"}, **responses(404, 422, 507)},
)
@access(READ)
async def show_classifier(request: Request, identifier: str, context: Served) -> Response:
    """Return one classifier. With `Prefer: wait=N`, wait up to N seconds for its training to end."""
    return await _answer_after_wait(
        request, context, await context.look(context.service.jobs.get, identifier), created=False
    )


@router.post("/classifier/{identifier}/cancel", responses=responses(404, 422, 507))
@access(Access(Scope.TRAIN))
async def cancel(identifier: str, context: Served) -> ClassifierAnswer:
    """Stop a training. A classifier whose training has ended is returned unchanged."""
    cancelled = await context.look(context.service.jobs.cancel, identifier)
    return ClassifierAnswer.of(cancelled, context.settings.root_path)


@router.delete("/classifier/{identifier}", status_code=204, responses=responses(404, 422, 507))
@access(Access(Scope.ADMIN))
async def delete(identifier: str, context: Served) -> Response:
    """Delete a classifier and its file. A training in progress is stopped."""
    await context.look(context.service.jobs.delete, identifier)
    return Response(status_code=204)


@router.post(
    "/classifier/{identifier}/predict",
    response_class=Response,
    responses={200: {"model": Predictions, "description": TOP}, **responses(400, 404, 408, 409, 413, 415, 422, 507)},
    openapi_extra=form_of(PART, {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}),
)
@access(Access(Scope.READ, "threads"))
async def predict(
    request: Request,
    identifier: str,
    context: Served,
    top: Annotated[int | None, Query(ge=1, description=TOP)] = None,
    none_below: Annotated[float, Query(ge=0, le=1, description=NONE)] = NONE_BELOW,
) -> Response:
    """Return the probability of each class for each picture, in the order of the pictures, and how familiar each is."""
    if not context.service.batches.knows(identifier):  # before reading pictures that could not be used
        await context.look(check_predictor, context.service.jobs, identifier)
    pictures = await read_unlabelled(request, max_pictures=context.settings.max_pictures)
    context.pay(request, len(pictures))
    predictions = replace(await context.predict(request, identifier, pictures, top), none_below=none_below)
    if len(predictions) * listed_classes(len(predictions.labels), top) <= STREAMED:
        return Response("".join(_json_of(predictions)), media_type="application/json")
    return StreamingResponse(_with_turns(_json_of(predictions)), media_type="application/json")


def _json_of(predictions: Sequence[Prediction]) -> Iterator[str]:
    """The JSON of Predictions in pieces. As a whole it may be a hundred times as large as the probabilities."""
    yield '{"predictions":['
    step = max(1, STREAMED // max(1, len(predictions[0].probabilities)))
    for start in range(0, len(predictions), step):
        some = (PredictionEntry.of(each) for each in predictions[start : start + step])
        yield ("," if start else "") + ",".join(each.model_dump_json(exclude_none=True) for each in some)
    yield "]}"


async def _with_turns(pieces: Iterator[str]) -> AsyncIterator[str]:
    """The pieces. Between two pieces, other tasks run on the event loop."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


@router.get(
    "/classifier/{identifier}/download",
    response_class=Response,
    responses={
        200: {
            "description": "the file",
            "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()},
        },
        304: {"description": "the version in If-None-Match is current"},
        **responses(404, 409, 422, 507),
    },
)
@access(READ)
async def download(
    request: Request, identifier: str, context: Served, format: Annotated[DownloadFormat, Query()] = "safetensors"
) -> Response:
    """Download the classifier. The ONNX file includes the preprocessing."""
    data = await context.look(context.service.download, identifier, format)
    digest = hashlib.sha256(data)
    etag = f'"{digest.hexdigest()}"'
    if names_etag(request.headers, etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = {
        "Content-Disposition": f'attachment; filename="classifier-{identifier[:8]}.{format}"',
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",  # RFC 9530; proxies change ETags
    }
    return Response(data, media_type=MEDIA_TYPES[format], headers=headers)


@router.get(
    "/classifier/{identifier}/card", response_class=Response, responses=MARKDOWN | responses(404, 409, 422, 507)
)
@access(READ)
async def show_card(identifier: str, context: Served) -> Response:
    """Return the classifier's card in Markdown: what it is, its estimated accuracy, and how to use its file."""
    card = await context.look(context.service.classifier_card, identifier)
    return Response(card, headers={"Content-Type": CARD})


async def _answer_after_wait(
    request: Request, context: Context, record: ClassifierRecord, *, created: bool
) -> Response:
    """The record, after the wait that was asked for. For a new one, 201 with a classifier, else 202."""
    headers, root = {}, context.settings.root_path
    seconds = preferred_wait(request, context.settings.max_wait_seconds)
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds:g}"
        record = await context.feeds.ended(record.id, seconds)
    status = 200
    if created:
        headers["Location"] = root + classifier_path(record.id)
        status = 201 if record.status is JobStatus.SUCCEEDED else 202
    content = ClassifierAnswer.of(record, root).model_dump_json()
    return Response(content, status_code=status, media_type="application/json", headers=headers)


def _one_value(name: str, parameter: Value | None, field: Value | None) -> Value | None:
    """An option that may be given in the address and in the body. Raises InvalidRequest if they differ."""
    if parameter is not None and field is not None and parameter != field:
        raise InvalidRequest(f"{name} is {parameter!r} in the address but {field!r} in the body", parameter=name)
    return field if parameter is None else parameter
