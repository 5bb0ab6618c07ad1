"""Picture files -> what a classifier looks at, exactly as the server does it: a classifier was measured with that.

Always in this order: refuse what is not JPEG, PNG or WebP, animated or too large; turn it as its EXIF orientation says;
put what is transparent over white; reduce it to 8 bits; make it grey or colour; cut the longer side to the wanted
proportions around the centre; resize it with an antialiasing filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from recall_client.messages.models import ImageShape
from recall_client.pictures.uploads import Upload

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from PIL import Image

MAX_PIXELS = 16_000_000
_FORMATS = ("JPEG", "PNG", "WEBP")
_SIXTEEN_BIT = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
_MODES = {1: "L", 3: "RGB"}


def prepared(pictures: Sequence[Upload], shape: ImageShape) -> NDArray[numpy.float32]:
    """Pictures as float32 [N, channels, height, width] in 0 to 1.

    Raises ValueError for what is no picture, naming it, and for a number of channels that is neither 1 nor 3.
    """
    import numpy

    if shape.channels not in _MODES:
        raise ValueError(f"pictures can be turned into 1 or 3 channels, not into {shape.channels}")
    return numpy.stack([_pixels(picture, shape) for picture in pictures])


def _pixels(picture: Upload, shape: ImageShape) -> NDArray[numpy.float32]:
    import numpy
    from PIL import Image, ImageOps

    image = _opened(picture)
    try:
        whole = _over_white(_eight_bit(ImageOps.exif_transpose(image))).convert(_MODES[shape.channels])
        sized = _centre(whole, shape).resize((shape.width, shape.height), Image.Resampling.BILINEAR)
    except Exception as error:  # Pillow's decoders raise a dozen kinds of error on damaged data
        raise ValueError(f"{picture.filename} is damaged: it cannot be decoded to the end") from error
    pixels = numpy.asarray(sized, dtype=numpy.float32).reshape(shape.height, shape.width, shape.channels)
    return numpy.ascontiguousarray((pixels / numpy.float32(255)).transpose(2, 0, 1))


def _opened(picture: Upload) -> Image.Image:
    """By its header only. Raises ValueError."""
    from PIL import Image

    try:
        image = Image.open(BytesIO(picture.data), formats=_FORMATS)
    except Exception as error:  # a header that lies makes the parsers raise anything
        raise ValueError(f"{picture.filename} is no JPEG, PNG or WebP picture that can be read") from error
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{picture.filename} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
    if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
        raise ValueError(f"{picture.filename} is animated; give one still picture")
    return image


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


def _centre(image: Image.Image, shape: ImageShape) -> Image.Image:
    """The largest part around the centre that has the wanted proportions."""
    proportion = shape.width / shape.height
    width = max(1, min(image.width, round(image.height * proportion)))
    height = max(1, min(image.height, round(image.width / proportion)))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
