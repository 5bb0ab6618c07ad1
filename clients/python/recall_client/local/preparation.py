"""Picture files as the input of a classifier, prepared exactly as on the server.

The steps, in this order: refuse what is not JPEG, PNG or WebP, animated or too large; turn by the EXIF orientation; put
transparency over white; reduce to 8 bits; convert to grey or colour; crop around the centre to the input's proportions;
resize with antialiasing. Damaged metadata is ignored.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from recall_client.messages.models import ImageShape
from recall_client.pictures import Upload
from recall_client.pictures.pillow import upright

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from PIL import Image

MAX_PIXELS = 16_000_000
_REDUCIBLE = 4  # times as many pixels are accepted of a JPEG, which is decoded at a smaller scale
_REDUCED_PIXELS = 1_000_000  # JPEGs beyond this size are decoded at a smaller scale
_OVERSAMPLING = 4  # the least scale of these, relative to the shape asked for
_JPEGS = ("JPEG", "MPO")
_FORMATS = ("JPEG", "PNG", "WEBP")
_SIXTEEN_BIT = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
_MODES = {1: "L", 3: "RGB"}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_ANCILLARY = (b"acTL", b"eXIf", b"tRNS")  # ancillary chunks that are more than a description of the picture


def prepared(pictures: Sequence[Upload], shape: ImageShape) -> NDArray[numpy.float32]:
    """Return pictures as float32 [N, channels, height, width], from 0 to 1.

    Raises ValueError that names the file for what is not a picture, and for channels other than 1 and 3.
    """
    import numpy

    if shape.channels not in _MODES:
        raise ValueError(f"pictures can have 1 or 3 channels, not {shape.channels}")
    return numpy.stack([_pixels(picture, shape) for picture in pictures])


def _pixels(picture: Upload, shape: ImageShape) -> NDArray[numpy.float32]:
    import numpy
    from PIL import Image

    whole = _over_white(_eight_bit(upright(_decoded(picture, shape)))).convert(_MODES[shape.channels])
    sized = _cropped(whole, shape).resize((shape.width, shape.height), Image.Resampling.BILINEAR)
    pixels = numpy.asarray(sized, dtype=numpy.float32).reshape(shape.height, shape.width, shape.channels)
    return numpy.ascontiguousarray((pixels / numpy.float32(255)).transpose(2, 0, 1))


def _decoded(picture: Upload, shape: ImageShape) -> Image.Image:
    """Return the decoded picture; a PNG file that fails is tried again without its metadata. Raises ValueError."""
    stripped = _without_metadata(picture.data)
    try:
        return _loaded(picture.data, picture.filename, shape)
    except _Undecodable:
        if stripped == picture.data:
            raise
        return _loaded(stripped, picture.filename, shape)


class _Undecodable(ValueError):
    pass


def _loaded(data: bytes, name: str, shape: ImageShape) -> Image.Image:
    from PIL import Image

    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
    except Exception as error:  # Pillow's parsers raise a dozen kinds of error on damaged headers
        raise _Undecodable(f"{name} is not a JPEG, PNG or WebP picture that can be read") from error
    most = MAX_PIXELS * (_REDUCIBLE if image.format in _JPEGS else 1)
    if image.width * image.height > most:
        raise ValueError(f"{name} has {image.width}x{image.height} pixels, more than {most:,}")
    if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
        raise ValueError(f"{name} is animated; give one still picture")
    try:
        if image.format in _JPEGS and image.width * image.height > _REDUCED_PIXELS:
            image.draft(None, (_OVERSAMPLING * max(shape.height, shape.width),) * 2)
        image.load()
    except Exception as error:  # the same of damaged data
        raise _Undecodable(f"{name} is damaged: it cannot be decoded to the end") from error
    return image


def _without_metadata(data: bytes) -> bytes:
    """Return a PNG file without its descriptive chunks and those with a wrong checksum; other files as they are.

    Pillow refuses a file for a text or a profile that inflates to a megabyte, and for a checksum of any chunk.
    """
    if not data.startswith(_PNG_SIGNATURE):
        return data
    kept, position = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind, chunk = data[position + 4 : position + 8], data[position:end]
        intact = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if kind[:1].isupper() or (kind in _PNG_ANCILLARY and intact):  # critical chunks begin with a capital
            kept.append(chunk)
        position = end
    return b"".join(kept)


def _eight_bit(image: Image.Image) -> Image.Image:
    import numpy
    from PIL import Image

    if image.mode not in _SIXTEEN_BIT:
        return image
    values = numpy.clip(numpy.asarray(image).astype(numpy.int32), 0, 65535)
    return Image.fromarray(((values + 128) // 257).astype(numpy.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    if not image.has_transparency_data:
        return image
    coloured = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)


def _cropped(image: Image.Image, shape: ImageShape) -> Image.Image:
    """Return the largest part around the centre with the proportions of `shape`."""
    proportion = shape.width / shape.height
    width = max(1, min(image.width, round(image.height * proportion)))
    height = max(1, min(image.height, round(image.width / proportion)))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
