"""Request bodies that are not known before they are read: JSON of several shapes, and forms with free field names."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, TypeVar, final

from anyio import to_thread
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from recall_server.core.io.tensor_file import parse_json
from recall_server.errors import InvalidRequest
from recall_server.recall.queries import Picture

JSON = "application/json"
FORM = "multipart/form-data"
LARGEST_JSON = 4 * 2**20  # bytes: names and numbers; pictures come as forms
MAX_TEXT_PARTS = 100  # a part that is no file is a mistake anyway; this many are read to say so

Body = TypeVar("Body", bound=BaseModel)


def media_type(request: Request, *, only: Sequence[str] = (JSON, FORM)) -> str:
    """The media type of the body, without parameters. Raises a 415 where it is not one of these."""
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent not in only:
        raise HTTPException(415, f"send {' or '.join(only)}, not {sent[:200] or 'a body without Content-Type'}")
    return sent


async def read_json(request: Request, model: type[Body]) -> Body:
    """The body as `model`. Raises a 400 for what is no JSON, a 413 for too much of it, and a 422 for another shape."""
    data = await request.body()
    if len(data) > LARGEST_JSON:
        raise HTTPException(413)
    return await to_thread.run_sync(_parse, data, model)


def _parse(data: bytes, model: type[Body]) -> Body:
    try:
        value: Any = parse_json(data.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one
        raise HTTPException(400, f"the body is no valid JSON: {error}") from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error


async def read_pictures(request: Request, *, max_pictures: int) -> list[Picture]:
    """All parts of a multipart form, in the order sent. Raises InvalidRequest for a part that is no file."""
    try:
        form = await _WholeForm(request, max_files=max_pictures, max_fields=MAX_TEXT_PARTS).parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message}") from error
    pictures = []
    try:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                raise InvalidRequest(
                    f"the part {name[:200]!r} is text; send each picture as a file, as in curl -F 'bear=@1.jpg', "
                    "and each option in the address, as in ?seed=1",
                    parameter=name[:200],
                )
            pictures.append(Picture(part=name, filename=(value.filename or "")[:200], data=await value.read()))
    finally:
        await form.close()
    return pictures


@final
class _WholeForm(MultiPartParser):
    """Starlette's parser, but a form without its closing boundary is refused: the part that is cut off would be lost.

    Raises MultiPartException.
    """

    def __init__(self, request: Request, *, max_files: int, max_fields: int) -> None:
        super().__init__(request.headers, self._to_the_end(request), max_files=max_files, max_fields=max_fields)
        self._whole = False

    def on_end(self) -> None:
        """The parser has met the closing boundary."""
        self._whole = True

    async def _to_the_end(self, request: Request) -> AsyncGenerator[bytes, None]:
        async for chunk in request.stream():
            yield chunk
        if not self._whole:
            raise MultiPartException("it is cut off before its closing boundary")


def body_schema(json_schema: dict[str, Any], form_description: str) -> dict[str, Any]:
    """What OpenAPI says of a body that is either JSON or a form of pictures with free field names."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    form = {"type": "object", "description": form_description, "additionalProperties": files, "minProperties": 1}
    content = {JSON: {"schema": json_schema}, FORM: {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}
