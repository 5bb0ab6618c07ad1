"""From HTTP answers to models and errors: no connection in here, so every kind of client can share it."""

from __future__ import annotations

from typing import TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from .errors import ProblemDocument, UnexpectedAnswer, problem

_Model = TypeVar("_Model", bound=BaseModel)


def parse(response: httpx2.Response, model: type[_Model]) -> _Model:
    """The answer's body as `model`. Raises UnexpectedAnswer for anything else, naming the first field that is wrong."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "body"
        raise UnexpectedAnswer(
            f"the answer to {_asked(response)} is not what this client understands; {where}: {first['msg']}"
        ) from error


def raise_for_problem(response: httpx2.Response) -> None:
    """Raise the error that the answer reports, if it reports one; its body must have been read."""
    if response.is_success:
        return
    if response.is_error:
        raise problem(_document(response))
    raise UnexpectedAnswer(f"the answer to {_asked(response)} has status {response.status_code}, which none has here")


def _document(response: httpx2.Response) -> ProblemDocument:
    """The problem document; from something in between that speaks no RFC 9457 (a proxy), one of its status alone."""
    fallback = ProblemDocument(
        response.status_code,
        title=response.reason_phrase,
        detail=f"{_asked(response)} was answered {response.status_code} {response.reason_phrase}",
    )
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return fallback
    try:
        return _ProblemBody.model_validate_json(response.content).document(response.status_code)
    except ValidationError:
        return fallback


class _ProblemBody(BaseModel):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    instance: str | None = None
    parameter: str | None = None
    suggestions: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    errors: tuple[dict[str, object], ...] = ()

    def document(self, status: int) -> ProblemDocument:
        return ProblemDocument(status, **dict(self))


def _asked(response: httpx2.Response) -> str:
    return f"{response.request.method} {response.request.url}"
