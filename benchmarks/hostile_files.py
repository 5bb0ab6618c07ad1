"""Small files that take long to decode."""

from __future__ import annotations

import io

from PIL import Image

START_OF_SCAN = b"\xff\xda"


def progressive(scans: int, *, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan is repeated, so that the file has so many scans."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (10, 200, 30)).save(stream, format="JPEG", progressive=True, quality=50)
    data = stream.getvalue()
    last = data.rindex(START_OF_SCAN)
    body, scan = data[:last], data[last:-2]
    return body + scan * (scans - body.count(START_OF_SCAN)) + data[-2:]


def flat_webp(side: int) -> bytes:
    """A few hundred bytes of side * side pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), "white").save(stream, format="WEBP", lossless=True, method=0)
    return stream.getvalue()
