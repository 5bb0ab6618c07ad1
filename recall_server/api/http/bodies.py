"""Request bodies that the routes read themselves: their media types, and JSON of several shapes.

The size of a body is checked before it is parsed, and a JSON body of more than a few kilobytes is parsed in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from recall_server.core.io.tensor_file import parse_json
from recall_server.errors import InvalidRequest

JSON = "application/json"
FORM = "multipart/form-data"
LARGEST_JSON = 4 * 2**20  # bytes: names and numbers; pictures come as forms
MOST_VALUES = 400_000  # in a JSON body; every list of numbers in full precision that fits LARGEST_JSON has fewer
COUNTED_AT_ONCE = 2**16  # bytes
KEY_COST = 4  # a key of an object costs as much to parse as this many numbers
INLINE_JSON = 2**14  # bytes that are parsed faster than a thread is started
# Python knows codecs that raise errors of their own, or that are no character sets; callers may name only these.
CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1"})
CHARSET = re.compile(r'(?i);\s*charset\s*=\s*("[^"]*"|[^;\s]*)')

Body = TypeVar("Body", bound=BaseModel)
InThread = Callable[[Callable[[], Body]], Awaitable[Body]]  # what runs a function in a thread


def media_type(request: Request, *, only: Sequence[str] = (JSON, FORM)) -> str:
    """The media type of the body, without parameters. Raises a 415 for other types and for unusual charsets."""
    header = request.headers.get("content-type", "")
    sent = header.partition(";")[0].strip().lower()
    if sent not in only:
        raise HTTPException(415, f"send {' or '.join(only)}, not {sent[:200] or 'a body without Content-Type'}")
    charset = charset_of(header)
    if charset not in CHARSETS:
        raise HTTPException(415, f"the charset must be utf-8, us-ascii or iso-8859-1, not {charset[:50]!r}")
    return sent


def charset_of(content_type: str) -> str:
    """The character set that a Content-Type names, in lower case, or else UTF-8."""
    named = CHARSET.search(content_type)
    return named[1].strip('" ').lower() if named else "utf-8"


async def read_json(request: Request, model: type[Body], in_thread: InThread[Body]) -> Body:
    """The body as `model`, parsed by `in_thread` where it is large.

    Raises a 400 for a body that is not JSON, a 413 for one of too many bytes, and a 422 for one with too many values
    or of another shape.
    """
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > LARGEST_JSON:
            raise HTTPException(413)
        pieces.append(piece)
    data = b"".join(pieces)
    if len(data) <= INLINE_JSON:
        return _parse(data, model)
    return await in_thread(partial(_parse, data, model))


def _parse(data: bytes, model: type[Body]) -> Body:
    _check_number_of_values(data)
    try:
        value: Any = parse_json(data.decode("utf-8-sig"))  # some editors put a byte order mark before the text
    except ValueError as error:  # UnicodeDecodeError is one
        raise HTTPException(400, f"the body is not valid JSON: {error}") from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(faults) from error


def _check_number_of_values(data: bytes) -> None:
    """Raises InvalidRequest for too many. Counts piece by piece, since no other thread runs while bytes are counted."""
    values = 0
    for start in range(0, len(data), COUNTED_AT_ONCE):
        piece = data[start : start + COUNTED_AT_ONCE]
        values += piece.count(b",") + KEY_COST * piece.count(b":")
        if values > MOST_VALUES:
            raise InvalidRequest(f"the body has more than {MOST_VALUES:,} values; send fewer in each request")


def body_schema(json_schema: dict[str, Any], form_description: str) -> dict[str, Any]:
    """The OpenAPI description of a body that is either JSON or a form of pictures with free field names."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    form = {"type": "object", "description": form_description, "additionalProperties": files, "minProperties": 1}
    content = {JSON: {"schema": json_schema}, FORM: {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def form_of(part: str, schema: dict[str, object]) -> dict[str, Any]:
    """The request body of a route that takes a form with one required part."""
    form = {"type": "object", "required": [part], "properties": {part: schema}}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": form}}}}
