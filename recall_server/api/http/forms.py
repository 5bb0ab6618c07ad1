"""Forms of pictures, whose field names are free.

Files are kept in memory, where they are needed anyway and the limits of bodies count them, so that no form depends on
the temporary folder.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Final, final
from urllib.parse import unquote

from fastapi import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.exceptions import HTTPException

from recall_server.api.http.bodies import charset_of
from recall_server.errors import InvalidRequest
from recall_server.recall.uploads import Picture

PARTS_IN_A_TURN: Final = 8  # then other tasks run on the event loop; each part takes some 20 microseconds
LONGEST_NAME: Final = 200  # characters that are kept of the name of a part or a file
ANY_BYTES: Final = "latin-1"  # the character set in which every header can be read, and its bytes can be found again
ESCAPED: Final = re.compile(r'\\(["\\])')
ENCODED: Final = re.compile("%22|%0D|%0A")  # all that browsers and curl encode (HTML, section 4.10.21.8)
FILENAME: Final = re.compile(r"(?i);\s*filename\*\s*=\s*(utf-8|iso-8859-1)'[^']*'([^;\s]*)")  # RFC 5987


async def read_pictures(request: Request, *, max_pictures: int) -> list[Picture]:
    """All parts of a multipart form, in the order sent.

    Raises a 400 for a form that cannot be read, has too many parts, or ends before its closing boundary, and
    InvalidRequest for a part that is not a file.
    """
    pictures: list[Picture] = []
    try:
        form = _Form(request.headers.get("content-type", ""))
        async for chunk in request.stream():
            for picture in form.read(chunk):
                if len(pictures) == max_pictures:
                    raise HTTPException(400, f"the form has more than {max_pictures} files; send fewer at a time")
                pictures.append(picture)
                if len(pictures) % PARTS_IN_A_TURN == 0:
                    await asyncio.sleep(0)
        form.close()
    except MultipartError as error:
        raise HTTPException(400, f"the form cannot be read: {error}") from error
    return pictures


@final
class _Form:
    """A form that comes in chunks. All methods raise MultipartError where it is no form."""

    def __init__(self, content_type: str) -> None:
        self._charset = charset_of(content_type)
        boundary = parse_options_header(content_type)[1].get("boundary", "")
        self._parser = PushMultipartParser(boundary, header_charset=ANY_BYTES)
        self._part, self._filename, self._content = "", "", BytesIO()  # which takes single bytes without an object each

    def read(self, chunk: bytes) -> Iterator[Picture]:
        """The pictures that this chunk completes."""
        for event in self._parser.parse(chunk) if chunk else ():
            if isinstance(event, MultipartSegment):
                self._begin(event)
            elif event is not None:
                self._content.write(event)
            else:
                yield Picture(part=self._part, filename=self._filename, data=self._content.getvalue())
                self._content = BytesIO()

    def close(self) -> None:
        """To be called at the end of the body. Raises MultipartError if the closing boundary has not come."""
        self._parser.close()

    def _begin(self, part: MultipartSegment) -> None:
        header = part.header("Content-Disposition", "")
        options = parse_options_header(header, unquote=_unquoted)[1]
        encoded, name = FILENAME.search(header), self._text(options.get("name", ""))
        if "filename" not in options and encoded is None:
            raise InvalidRequest(
                f"the part {name[:LONGEST_NAME]!r} is text; send each picture as a file, as in curl -F 'bear=@1.jpg', "
                "and each option in the query string, as in ?seed=1",
                parameter=name[:LONGEST_NAME],
            )
        filename = unquote(encoded[2], encoded[1]) if encoded else self._text(options["filename"])
        self._part, self._filename = name, filename[:LONGEST_NAME]

    def _text(self, read: str) -> str:
        """A name in the character set of the form. Some programs use that of their system; its bytes are kept."""
        try:
            return read.encode(ANY_BYTES).decode(self._charset)
        except ValueError:
            return read


def _unquoted(value: str, is_filename: bool) -> str:
    """The value of an option: programs escape quotes by a backslash, and browsers by a percent sign."""
    if value.startswith('"'):
        value = ESCAPED.sub(r"\1", value[1:-1])
    return ENCODED.sub(lambda found: unquote(found[0]), value)
