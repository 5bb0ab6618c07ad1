"""Request bodies that the routes read themselves: JSON of several shapes, and forms whose field names are free.

The size of a body is checked before it is parsed, and a JSON body of more than a few kilobytes is parsed in a thread.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar, final
from urllib.parse import unquote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from recall_server.core.io.tensor_file import parse_json
from recall_server.errors import InvalidRequest
from recall_server.recall.uploads import Picture

JSON = "application/json"
FORM = "multipart/form-data"
LARGEST_JSON = 4 * 2**20  # bytes: names and numbers; pictures come as forms
MOST_VALUES = 400_000  # in a JSON body; every list of numbers in full precision that fits LARGEST_JSON has fewer
COUNTED_AT_ONCE = 2**16  # bytes
KEY_COST = 4  # a key of an object costs as much to parse as this many numbers
INLINE_JSON = 2**14  # bytes that are parsed faster than a thread is started
# Python knows codecs that raise errors of their own, or that are no character sets; callers may name only these.
CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1"})
PARTS_IN_A_TURN = 8  # of a form, then others have their turn on the event loop; each takes a tenth of a millisecond
HEADERS_END = b"\r\n\r\n"  # of a part
# What browsers and curl encode in the names of fields and files (HTML, section 4.10.21.8); they encode no other '%'.
ENCODED = {"%22": '"', "%0D": "\r", "%0A": "\n"}
ENCODED_NAME = re.compile("|".join(ENCODED))
FILENAME = re.compile(rb"(?i);\s*filename\*\s*=\s*(utf-8|iso-8859-1)'[^']*'([^;\s]*)")  # RFC 5987
MAX_TEXT_PARTS = 100  # a text part is a mistake; so many are read before a request is refused without naming one

Body = TypeVar("Body", bound=BaseModel)
InThread = Callable[[Callable[[], Body]], Awaitable[Body]]  # what runs a function in a thread


def media_type(request: Request, *, only: Sequence[str] = (JSON, FORM)) -> str:
    """The media type of the body, without parameters. Raises a 415 for other types and for unusual charsets."""
    header = request.headers.get("content-type", "")
    sent = header.partition(";")[0].strip().lower()
    if sent not in only:
        raise HTTPException(415, f"send {' or '.join(only)}, not {sent[:200] or 'a body without Content-Type'}")
    charset = parse_options_header(header)[1].get(b"charset", b"utf-8").decode("latin-1").strip().lower()
    if charset not in CHARSETS:
        raise HTTPException(415, f"the charset must be utf-8, us-ascii or iso-8859-1, not {charset[:50]!r}")
    return sent


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


async def read_pictures(request: Request, *, max_pictures: int) -> list[Picture]:
    """All parts of a multipart form, in the order sent.

    Raises a 400 for a form that cannot be read, and InvalidRequest for a part that is not a file.
    """
    try:
        form = await _WholeForm(request, max_files=max_pictures, max_fields=MAX_TEXT_PARTS).parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message}") from error
    pictures: list[Picture] = []
    try:
        for name, value in form.multi_items():
            if len(pictures) % PARTS_IN_A_TURN == 0:
                await asyncio.sleep(0)
            if not isinstance(value, UploadFile):
                raise InvalidRequest(
                    f"the part {name[:200]!r} is text; send each picture as a file, as in curl -F 'bear=@1.jpg', "
                    "and each option in the query string, as in ?seed=1",
                    parameter=name[:200],
                )
            pictures.append(Picture(part=name, filename=(value.filename or "")[:200], data=await value.read()))
            await value.close()  # its memory is free before the next one is copied
    finally:
        await form.close()
    return pictures


@final
class _WholeForm(MultiPartParser):
    """Starlette's parser with two differences.

    It keeps files in memory, where they are needed anyway and the limits of bodies count them, so that no form depends
    on the temporary folder. And it refuses a form without its closing boundary, whose last part may be cut off.
    """

    spool_max_size = sys.maxsize

    def __init__(self, request: Request, *, max_files: int, max_fields: int) -> None:
        super().__init__(request.headers, self._to_the_end(request), max_files=max_files, max_fields=max_fields)
        self._whole = False

    def on_headers_finished(self) -> None:
        """Called by the parser at the end of the headers of a part. Decodes the names of its field and its file."""
        part = self._current_part
        encoded = FILENAME.search(part.content_disposition or b"")
        if encoded and part.content_disposition:  # the parser skips the name, and would take the file for a text
            part.content_disposition += b'; filename="file"'
        super().on_headers_finished()
        part.field_name = _decoded(part.field_name)
        if part.file is not None:
            name = unquote(encoded[2].decode("latin-1"), encoded[1].decode()) if encoded else part.file.filename
            part.file.filename = _decoded(name or "")

    def on_end(self) -> None:
        """Called by the parser at the closing boundary."""
        self._whole = True

    async def _to_the_end(self, request: Request) -> AsyncGenerator[bytes, None]:
        async for chunk in request.stream():
            turns = 1 + chunk.count(HEADERS_END) // PARTS_IN_A_TURN
            step = 1 + len(chunk) // turns
            for start in range(0, len(chunk), step):
                yield chunk[start : start + step]
                if turns > 1:
                    await asyncio.sleep(0)
        if not self._whole:
            raise MultiPartException("it ends before its closing boundary")


def _decoded(name: str) -> str:
    """The name that a form encoded so that it can stand between quotes."""
    return ENCODED_NAME.sub(lambda found: ENCODED[found[0]], name)


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
