"""Contact sheets: many small images on one labelled sheet, as a PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from recall_server.core.io.pictures import from_bytes, to_bytes
from recall_server.errors import InvalidRequest

CELL = 64  # pixels: smaller images are enlarged by integer factors
GAP = 4
TEXT = 14  # height of a label in pixels
MARGIN = 8
LONGEST_LABEL = 100  # characters
LARGEST_SHEET = 50_000_000  # pixels
COMPRESSION = 1  # zlib's level: half the time of the default for a seventh more bytes


def contact_sheet(rows: Sequence[tuple[str, NDArray[np.float32]]]) -> bytes:
    """Rows of (label, images [n, C, H, W] in pixel space) -> the bytes of a PNG; the same input gives the same bytes.

    Values are clipped to 0..1. Rows may differ in image size and number of images. Small images are enlarged to about
    CELL pixels by an integer factor, without smoothing. A sheet of grey images is grey. Raises InvalidRequest for
    more than LARGEST_SHEET pixels.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row of images")
    labels = [_label_image(label) for label, _ in rows]
    strips = [_strip(images) for _, images in rows]
    widest = max(image.width for image in (*strips, *labels))
    height = MARGIN + sum(TEXT + 2 * GAP + strip.height + MARGIN for strip in strips)
    if (widest + 2 * MARGIN) * height > LARGEST_SHEET:
        raise InvalidRequest(f"a sheet of {len(rows)} rows would be too large to look at; ask for fewer")
    mode = "L" if all(strip.mode == "L" for strip in strips) else "RGB"
    sheet = Image.new(mode, (widest + 2 * MARGIN, height), "white")
    top = MARGIN
    for label, strip in zip(labels, strips, strict=True):
        sheet.paste(label, (MARGIN, top))
        top += TEXT + 2 * GAP
        sheet.paste(strip, (MARGIN, top))
        top += strip.height + MARGIN
    stream = io.BytesIO()
    sheet.save(stream, format="PNG", compress_level=COMPRESSION)
    return stream.getvalue()


@lru_cache(maxsize=1024)
def _label_image(label: str) -> Image.Image:
    """A label in black on white. Cached, because drawing it takes longer than recalling its images."""
    text = label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
    font = ImageFont.load_default(TEXT)
    image = Image.new("L", (max(1, math.ceil(font.getlength(text))), TEXT + 2 * GAP), "white")
    ImageDraw.Draw(image).text((0, 0), text, fill="black", font=font)
    return image


def _strip(images: NDArray[np.float32]) -> Image.Image:
    """One row of the sheet: the images [n, C, H, W] side by side with gaps between them."""
    count, channels, height, width = images.shape
    factor = max(1, round(CELL / max(height, width)))
    row = np.full((channels, height, factor, count, width * factor + GAP), 255, dtype=np.uint8)
    wide = to_bytes(images).repeat(factor, axis=3)
    row[..., : width * factor] = wide.transpose(1, 2, 0, 3)[:, :, None]
    strip = row.reshape(channels, height * factor, -1)[..., : max(1, count * (width * factor + GAP) - GAP)]
    return from_bytes(strip)
