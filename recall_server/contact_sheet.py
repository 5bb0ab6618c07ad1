"""Many small images on one labelled sheet, for people to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from recall_server.pictures import to_picture

CELL = 64  # pixels: images smaller than this are enlarged by whole factors
GAP = 4
TEXT = 14  # height of a label in pixels
MARGIN = 8


def contact_sheet(rows: Sequence[tuple[str, NDArray[np.float32]]], *, cell: int = CELL) -> bytes:
    """Rows of (label, images [n, C, H, W] in pixel space) -> the bytes of a PNG; the same input gives the same bytes.

    Values are clipped to 0..1. Rows may differ in image size and in number of images; small images are enlarged by a
    whole factor, without smoothing, to about `cell` pixels.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row of images")
    font = ImageFont.load_default(TEXT)
    strips = [_strip(images, cell) for _, images in rows]
    widest = max(max(strip.width for strip in strips), *(int(font.getlength(label)) for label, _ in rows))
    height = MARGIN + sum(TEXT + 2 * GAP + strip.height + MARGIN for strip in strips)
    sheet = Image.new("RGB", (widest + 2 * MARGIN, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for (label, _), strip in zip(rows, strips, strict=True):
        draw.text((MARGIN, top), label, fill="black", font=font)
        top += TEXT + 2 * GAP
        sheet.paste(strip, (MARGIN, top))
        top += strip.height + MARGIN
    stream = io.BytesIO()
    sheet.save(stream, format="PNG")
    return stream.getvalue()


def _strip(images: NDArray[np.float32], cell: int) -> Image.Image:
    """One row: the images side by side with a gap between."""
    count, _, height, width = images.shape
    factor = max(1, round(cell / max(height, width)))
    step = width * factor + GAP
    strip = Image.new("RGB", (max(1, count * step - GAP), height * factor), "white")
    for position, image in enumerate(images):
        picture = to_picture(image).resize((width * factor, height * factor), Image.Resampling.NEAREST)
        strip.paste(picture, (position * step, 0))
    return strip
