"""HTTP answers as models and errors."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from recall_client.errors import AnswerTimeout, NoAnswer, ProblemDocument, RecallError, UnexpectedAnswer, problem
from recall_client.pictures import Picture

_PNG = b"\x89PNG"
_Model = TypeVar("_Model", bound=BaseModel)


def parse(response: httpx2.Response, model: type[_Model]) -> _Model:
    """Return the body as `model`. Raises UnexpectedAnswer that names the first field at fault."""
    if (kind := _media_type(response)) not in ("", "application/json"):
        raise UnexpectedAnswer(
            f"the answer to {_asked(response)} is {kind}, not application/json; is it a recall server?"
        )
    return parse_json(response.content, model, of=f"the answer to {_asked(response)}")


def parse_json(content: str | bytes, model: type[_Model], *, of: str) -> _Model:
    """Return JSON as `model`. Raises UnexpectedAnswer that calls the JSON by `of`."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "body"
        raise UnexpectedAnswer(f"{of} does not have the expected form; {where}: {first['msg']}") from error


def read_text(response: httpx2.Response, media_type: str) -> str:
    """Return the body as text. Raises UnexpectedAnswer for another media type than `media_type`."""
    if (kind := _media_type(response)) != media_type:
        raise UnexpectedAnswer(f"the answer to {_asked(response)} is {kind or 'without a type'}, not {media_type}")
    return response.text


def read_png(response: httpx2.Response) -> Picture:
    """Return the body as a picture. Raises UnexpectedAnswer for anything but a PNG file."""
    if not response.content.startswith(_PNG):
        raise UnexpectedAnswer(f"the answer to {_asked(response)} is not a PNG file")
    return Picture(response.content)


def refusal(response: httpx2.Response) -> RecallError | None:
    """Return the error that the answer reports, or None for a success. The body must have been read."""
    if response.is_success:
        return None
    if response.is_error:
        return problem(_document(response))
    return UnexpectedAnswer(f"the answer to {_asked(response)} has the unexpected status {response.status_code}")


def no_answer(error: httpx2.RequestError, asked: str, seconds: float) -> NoAnswer:
    """Return the error for a request without an answer; `asked` names it, `seconds` is its time-out."""
    failure: NoAnswer
    if isinstance(error, httpx2.TimeoutException):
        failure = AnswerTimeout(f"{asked} was not answered within {seconds:g} s")
    else:
        failure = NoAnswer(f"{asked} got no answer ({error or type(error).__name__}); is the server running?")
    failure.__cause__ = error
    return failure


def _document(response: httpx2.Response) -> ProblemDocument:
    """Return the problem document, or one made of the status where a proxy answered something else."""
    retry_after = _seconds(response.headers.get("retry-after"))
    fallback = ProblemDocument(
        response.status_code,
        title=response.reason_phrase,
        detail=f"{_asked(response)} was answered {response.status_code} {response.reason_phrase}".rstrip(),
        retry_after=retry_after,
    )
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return fallback
    try:
        return _ProblemBody.model_validate_json(response.content).document(response.status_code, retry_after)
    except ValidationError:
        return fallback


def _seconds(retry_after: str | None) -> float | None:
    """Return Retry-After (RFC 9110, section 10.2.3), a number of seconds or a date, as seconds; None for neither."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after[:10])
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


class _ProblemBody(BaseModel):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    instance: str | None = None
    parameter: str | None = None
    suggestions: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    errors: tuple[dict[str, object], ...] = ()

    def document(self, status: int, retry_after: float | None) -> ProblemDocument:
        return ProblemDocument(status, retry_after=retry_after, **dict(self))


def _media_type(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _asked(response: httpx2.Response) -> str:
    return f"{response.request.method} {response.request.url}"
