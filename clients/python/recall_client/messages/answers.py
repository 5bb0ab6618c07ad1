"""From HTTP answers to models and errors: no connection in here, so every kind of client can share it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from recall_client.errors import AnswerTimeout, NoAnswer, ProblemDocument, RecallError, UnexpectedAnswer, problem
from recall_client.pictures.uploads import Picture

_PNG = b"\x89PNG"
_Model = TypeVar("_Model", bound=BaseModel)


def parse(response: httpx2.Response, model: type[_Model]) -> _Model:
    """The answer's body as `model`. Raises UnexpectedAnswer for anything else, naming the first field that is wrong."""
    if (kind := _media_type(response)) not in ("", "application/json"):
        raise UnexpectedAnswer(
            f"the answer to {_asked(response)} is {kind} where application/json belongs; is a recall server there?"
        )
    return parse_json(response.content, model, of=f"the answer to {_asked(response)}")


def parse_json(content: str | bytes, model: type[_Model], *, of: str) -> _Model:
    """JSON as `model`; `of` says in the message of an UnexpectedAnswer what it is that is wrong."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "body"
        raise UnexpectedAnswer(f"{of} is not what this client understands; {where}: {first['msg']}") from error


def read_text(response: httpx2.Response, media_type: str) -> str:
    """The answer's body as text of `media_type`. Raises UnexpectedAnswer for another kind of answer."""
    if (kind := _media_type(response)) != media_type:
        raise UnexpectedAnswer(f"the answer to {_asked(response)} is {kind or 'of no type'} where {media_type} belongs")
    return response.text


def read_png(response: httpx2.Response) -> Picture:
    """The answer's body as a picture. Raises UnexpectedAnswer for what is no PNG."""
    if not response.content.startswith(_PNG):
        raise UnexpectedAnswer(f"the answer to {_asked(response)} is no PNG picture")
    return Picture(response.content)


def refusal(response: httpx2.Response) -> RecallError | None:
    """The error that the answer reports; None if it reports none. Its body must have been read."""
    if response.is_success:
        return None
    if response.is_error:
        return problem(_document(response))
    return UnexpectedAnswer(f"the answer to {_asked(response)} has status {response.status_code}, which none has here")


def no_answer(error: httpx2.RequestError, asked: str, seconds: float) -> NoAnswer:
    """The error for a request that got no answer: `asked` says which, `seconds` how long was waited for it."""
    failure: NoAnswer
    if isinstance(error, httpx2.TimeoutException):
        failure = AnswerTimeout(f"{asked} was not answered within {seconds:g} s")
    else:
        failure = NoAnswer(f"{asked} got no answer ({error or type(error).__name__}); is the server running?")
    failure.__cause__ = error
    return failure


def _document(response: httpx2.Response) -> ProblemDocument:
    """The problem document; from something in between that speaks no RFC 9457 (a proxy), one of its status alone."""
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
    """Retry-After (RFC 9110, section 10.2.3) is a number of seconds or a date; what is neither says nothing."""
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
