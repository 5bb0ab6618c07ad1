"""Forms of pictures whose classes are asked for, not given: every part has the same name."""

from __future__ import annotations

from typing import Final

from fastapi import Request

from recall_server.api.http.bodies import FORM, media_type
from recall_server.api.http.forms import read_pictures
from recall_server.errors import InvalidRequest
from recall_server.recall.uploads import Picture

PART: Final = "images"


async def read_unlabelled(request: Request, *, max_pictures: int) -> list[Picture]:
    """The pictures of a form, in the order sent.

    Raises a 415 for another body, a 400 for a form that cannot be read, and InvalidRequest for a part that is not a
    file or has another name than PART.
    """
    media_type(request, only=(FORM,))
    pictures = await read_pictures(request, max_pictures=max_pictures)
    other = next((picture.part for picture in pictures if picture.part != PART), None)
    if other is not None:
        raise InvalidRequest(f"parts must be named {PART!r}, not {other[:200]!r}", parameter=other[:200])
    return pictures
