"""Pictures that strangers send -> arrays that a memory or a classifier can take, and back to PNG.

What is done to a picture, always in this order and always the same: refuse it (not JPEG, PNG or WebP; animated; too
many pixels), turn it as its EXIF orientation says, put what is transparent over white, reduce it to 8 bits, make it
grey or colour, cut the longer side to the wanted proportions around the centre, and resize it with an antialiasing
filter.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from recall_server.errors import PictureTooLarge, UnreadablePicture, UnsupportedQuery

FORMATS = ("JPEG", "PNG", "WEBP")  # Pillow reads seventy; each is a parser that strangers could feed
MAX_PIXELS = 16_000_000
SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
MODES = {1: "L", 3: "RGB"}


def decode(
    data: bytes, image_shape: tuple[int, int, int], *, name: str = "the picture", max_pixels: int = MAX_PIXELS
) -> NDArray[np.float32]:
    """The bytes of one picture file -> float32 [C, H, W] in 0..1, in the shape asked for.

    `name` is what errors call the picture. Raises UnreadablePicture, PictureTooLarge (before anything is decoded),
    and UnsupportedQuery for an image shape that is neither grey nor colour.
    """
    channels, height, width = image_shape
    if channels not in MODES:
        raise UnsupportedQuery(f"pictures can be turned into 1 or 3 channels, not into {channels}", parameter=name)
    if not data:
        raise UnreadablePicture(f"{name} is empty", parameter=name)
    image = _open(data, name, max_pixels)
    try:
        upright = ImageOps.exif_transpose(image)
        eight_bit = _without_transparency(_eight_bit(upright)).convert(MODES[channels])
        sized = fit(eight_bit, width, height)
    except Exception as error:  # Pillow's decoders raise a dozen kinds of error on damaged data; all mean the same here
        raise UnreadablePicture(f"{name} is damaged: it cannot be decoded to the end", parameter=name) from error
    pixels = np.asarray(sized, dtype=np.float32).reshape(height, width, channels) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """The picture cut to the proportions asked for around its centre, and resized with an antialiasing filter."""
    return _centre(image, width / height).resize((width, height), Image.Resampling.BILINEAR)


def encode_png(image: NDArray[np.float32]) -> bytes:
    """Pixels [C, H, W], clipped to 0..1 and rounded to 8 bits -> the bytes of a grey or colour PNG."""
    stream = io.BytesIO()
    to_picture(image).save(stream, format="PNG")
    return stream.getvalue()


def to_picture(image: NDArray[np.float32]) -> Image.Image:
    """Pixels [C, H, W], clipped to 0..1 and rounded to 8 bits -> a picture of mode L or RGB. C must be 1 or 3."""
    return from_bytes(to_bytes(image))


def to_bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pixels of any shape, clipped to 0..1 and rounded to 8 bits."""
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def from_bytes(image: NDArray[np.uint8]) -> Image.Image:
    """Bytes [C, H, W] -> a picture of mode L or RGB. C must be 1 or 3."""
    if image.shape[0] == 1:
        return Image.fromarray(np.ascontiguousarray(image[0]))
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def _open(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """Read the header only, and refuse by what it says."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLarge(_too_large(name, "far", max_pixels), parameter=name) from error
    except UnidentifiedImageError as error:
        raise UnreadablePicture(f"{name} is no JPEG, PNG or WebP picture", parameter=name) from error
    except Exception as error:  # a header that lies makes the parsers raise anything
        raise UnreadablePicture(f"{name} is damaged: its header cannot be read", parameter=name) from error
    if image.width * image.height > max_pixels:
        raise PictureTooLarge(_too_large(name, f"at {image.width}x{image.height}", max_pixels), parameter=name)
    # Phones write JPEGs with previews behind the photo (MPO): the first picture is the photo. An animation has none.
    if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
        raise UnreadablePicture(f"{name} is animated; send one still picture", parameter=name)
    return image


def _too_large(name: str, how: str, max_pixels: int) -> str:
    return f"{name} is too large, {how} more than the {max_pixels:,} pixels that are accepted; send a smaller one"


def _centre(image: Image.Image, proportion: float) -> Image.Image:
    """The largest part around the centre whose width is `proportion` times its height.

    ImageOps.fit does nearly the same, but lets what it cuts away bleed into the edges.
    """
    width = max(1, min(image.width, round(image.height * proportion)))
    height = max(1, min(image.height, round(image.width / proportion)))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Sixteen-bit grey, which Pillow would clip instead of scaling, to eight bits."""
    if image.mode not in SIXTEEN_BIT_MODES:
        return image
    values = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _without_transparency(image: Image.Image) -> Image.Image:
    """Over white, as a page shows it: the colours that hide under full transparency are noise."""
    if not image.has_transparency_data:
        return image
    coloured = image.convert("RGBA")
    white = Image.new("RGBA", coloured.size, "white")
    return Image.alpha_composite(white, coloured)
