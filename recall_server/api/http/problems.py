"""Maps errors to RFC 9457 problem documents. No document contains a stack trace or a path of this machine."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from recall_server import errors
from recall_server.core.io.storage_errors import storage_failure

MEDIA_TYPE = "application/problem+json"
MOST_FAULTS = 20  # listed in one answer
NOTHING_HERE = "nothing is served at this address; GET / lists the addresses"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProblemType:
    """One kind of problem: the last part of its type URI, a title that never changes, and its HTTP status."""

    slug: str
    title: str
    status: int

    @property
    def uri(self) -> str:
        return f"/problems/{self.slug}"


INVALID_REQUEST = ProblemType("invalid-request", "Invalid request", 422)
INTERNAL_ERROR = ProblemType("internal-error", "Internal error", 500)
BODY_TOO_LARGE = ProblemType("body-too-large", "Request body too large", 413)

PROBLEMS: dict[type[errors.RecallError], ProblemType] = {
    errors.RecallError: INTERNAL_ERROR,
    errors.InvalidRequest: INVALID_REQUEST,
    errors.UnknownLabel: ProblemType("unknown-label", "Unknown label", 422),
    errors.AmbiguousLabel: ProblemType("ambiguous-label", "Ambiguous label", 422),
    errors.UnreadablePicture: ProblemType("unreadable-picture", "Unreadable picture", 422),
    errors.PictureTooLarge: ProblemType("picture-too-large", "Picture too large", 413),
    errors.UnsupportedQuery: ProblemType("unsupported-query", "Unsupported query", 422),
    errors.NotFound: ProblemType("not-found", "Not found", 404),
    errors.NotReady: ProblemType("not-ready", "Not ready", 409),
    errors.TryAgain: INTERNAL_ERROR,
    errors.Conflict: ProblemType("conflict", "Conflict", 409),
    errors.Unauthorised: ProblemType("unauthorised", "Unauthorised", 401),
    errors.Forbidden: ProblemType("forbidden", "Forbidden", 403),
    errors.Overloaded: ProblemType("overloaded", "Too much work", 429),
    errors.Unavailable: ProblemType("unavailable", "Unavailable", 503),
    errors.Abandoned: ProblemType("request-timeout", "Request took too long", 408),  # the caller has left
    errors.NotFitted: INTERNAL_ERROR,
    errors.InvalidBundle: INTERNAL_ERROR,
    errors.InvalidDataset: INTERNAL_ERROR,
    errors.InvalidCheckpoint: INTERNAL_ERROR,
    errors.TrainingFailed: ProblemType("training-failed", "Training failed", 500),
    errors.WorkerLost: ProblemType("worker-lost", "Worker lost", 500),
    errors.QueueExpired: ProblemType("queue-expired", "Waited too long", 500),
    errors.StorageFailed: ProblemType("storage-failed", "Storage failed", 507),
    errors.StorageBusy: ProblemType("unavailable", "Unavailable", 503),
}

STATUSES: dict[int, ProblemType] = {
    400: ProblemType("invalid-request", "Invalid request", 400),
    404: PROBLEMS[errors.NotFound],
    405: ProblemType("method-not-allowed", "Method not allowed", 405),
    406: ProblemType("not-acceptable", "Not acceptable", 406),
    408: PROBLEMS[errors.Abandoned],
    412: ProblemType("precondition-failed", "Precondition failed", 412),
    413: BODY_TOO_LARGE,
    415: ProblemType("unsupported-media-type", "Unsupported media type", 415),
    422: INVALID_REQUEST,
}


class FieldProblem(BaseModel):
    """What is wrong with one parameter or field."""

    parameter: str
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457). `parameter` and the fields after it are extensions, omitted if unused."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    parameter: str | None = None
    suggestions: list[str] | None = None
    candidates: list[str] | None = None
    errors: list[FieldProblem] | None = None


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of a route that answers with problems of these statuses."""
    return {status: _described(HTTPStatus(status).phrase) for status in statuses}


def everywhere() -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses that all routes share: the refusals of the guard."""
    return responses(401, 403, 429)


@functools.cache
def _schema() -> dict[str, Any]:
    return Problem.model_json_schema()  # 2 ms, and some 200 responses have it


def _described(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _schema()}}}


def problem_type(kind: str) -> ProblemType:
    """The problem type of an error class, by its name, which is what jobs record."""
    return next((known for error, known in PROBLEMS.items() if error.__name__ == kind), INTERNAL_ERROR)


def problem_response(
    known: ProblemType, detail: str, instance: str, *, headers: dict[str, str] | None = None, **extensions: Any
) -> JSONResponse:
    """A response with the document. Extensions that are None are omitted."""
    document = Problem(
        type=known.uri, title=known.title, status=known.status, detail=detail, instance=instance, **extensions
    )
    content = document.model_dump(mode="json", exclude_none=True)
    return JSONResponse(content, status_code=known.status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem document."""
    app.add_exception_handler(errors.RecallError, _recall_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _os_error)


def _recall_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.RecallError)
    return recall_problem(error, request.url.path)


def _os_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
        raise error  # of the connection to the caller, or unexpected
    logger.error("a file could not be used", exc_info=error)
    return recall_problem(storage_failure("a file of this server could not be used", error), request.url.path)


def recall_problem(error: errors.RecallError, instance: str) -> JSONResponse:
    """The response to a RecallError."""
    known = PROBLEMS[type(error)]
    if known is INTERNAL_ERROR:
        logger.error("unexpected error", exc_info=error)
        return unforeseen(instance)
    headers = {}
    if isinstance(error, errors.TryAgain | errors.StorageBusy):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, errors.Unauthorised):
        headers["WWW-Authenticate"] = "Bearer"
    return problem_response(
        known,
        str(error),
        instance,
        headers=headers,
        parameter=getattr(error, "parameter", None),
        suggestions=getattr(error, "suggestions", None),
        candidates=getattr(error, "candidates", None),
    )


def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return invalid_fields(request, error.errors())


def invalid_fields(request: Request, faults: Any) -> JSONResponse:
    """A 422 for the errors of a pydantic ValidationError."""
    fields = [
        FieldProblem(
            parameter=".".join(str(part) for part in fault["loc"] if part not in ("query", "path", "body")),
            detail=str(fault["msg"]).removeprefix("Value error, "),
        )
        for fault in faults[:MOST_FAULTS]
    ]
    detail = "; ".join(f"{field.parameter}: {field.detail}" for field in fields[:5])
    parameter = fields[0].parameter if fields else None
    return problem_response(INVALID_REQUEST, detail, request.url.path, parameter=parameter, errors=fields)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = error.status_code
    known = STATUSES.get(status) or ProblemType("http-error", HTTPStatus(status).phrase, status)
    headers = dict(error.headers) if error.headers else None
    return problem_response(known, _sentence(request, error), request.url.path, headers=headers)


def _sentence(request: Request, error: HTTPException) -> str:
    """The detail of the document. Errors of the framework only repeat the name of the status."""
    if error.status_code == 404:
        return NOTHING_HERE
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return f"{request.method} is not allowed here; allowed: {allowed}"
    if error.status_code == 413:
        return "the request body is larger than this server accepts; GET /info says how large it may be"
    return str(error.detail)


def unforeseen(instance: str) -> JSONResponse:
    """A 500 without details. The caller of this function logs the error."""
    detail = "the server failed in a way it should not; its log says more"
    return problem_response(INTERNAL_ERROR, detail, instance)
