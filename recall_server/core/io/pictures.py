"""Picture files from strangers -> arrays in the shape of a memory or a classifier, and back to PNG.

A picture is always treated in this order: take its metadata away, refuse it (not JPEG, PNG or WebP; animated; too many
pixels or scans), decode it, turn it as its EXIF orientation said, put transparent parts over white, reduce it to 8
bits, make it grey or colour, cut the longer side to the wanted proportions around the centre, and resize it with an
antialiasing filter.
"""

from __future__ import annotations

import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from recall_server.core.io.metadata import orientation_of, separate
from recall_server.errors import PictureTooLarge, UnreadablePicture, UnsupportedQuery

FORMATS = ("JPEG", "PNG", "WEBP")  # Pillow reads seventy; each is a parser that strangers could feed
MAX_PIXELS = 16_000_000
# Pillow's own limit is replaced by `max_pixels`, which is compared with the header before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
JPEGS = ("JPEG", "MPO")  # MPO is a JPEG with further pictures behind it
MAX_SCANS = 32  # of a JPEG: encoders write up to 18, and each is a pass over all pixels
PIXELS_PER_SCAN = 0.1  # the work of a scan, as a share of decoding the pixels once
REDUCIBLE = 4  # times `max_pixels` are accepted of a JPEG, which is decoded at a smaller scale
LARGEST_JPEG = 200_000_000  # pixels; what a multiple of `max_pixels` never exceeds
REDUCED_PIXELS = 1_000_000  # JPEGs beyond this size are decoded at a smaller scale
OVERSAMPLING = 4  # the least scale of these, relative to the shape asked for
# A JPEG marker that is neither a stuffed byte nor a restart marker; it ends the entropy-coded data of a scan.
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
START_OF_SCAN, START, END, PRIVATE = 0xDA, 0xD8, 0xD9, 0x01
SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
MODES = {1: "L", 3: "RGB"}
TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    data: bytes, image_shape: tuple[int, int, int], *, name: str = "the picture", max_pixels: int = MAX_PIXELS
) -> NDArray[np.float32]:
    """The pixels of a picture file, float32 [C, H, W] in 0..1, in the shape asked for.

    A JPEG, which is decoded at a smaller scale, may have REDUCIBLE times `max_pixels`, up to LARGEST_JPEG.
    Errors call the picture `name`. Raises UnreadablePicture, PictureTooLarge (before any pixel is decoded), and
    UnsupportedQuery for an image shape of other than 1 or 3 channels.
    """
    return decode_bytes(data, image_shape, name=name, max_pixels=max_pixels).astype(np.float32) / np.float32(255)


def decode_bytes(
    data: bytes,
    image_shape: tuple[int, int, int],
    *,
    name: str = "the picture",
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] = FORMATS,
) -> NDArray[np.uint8]:
    """`decode` in 8 bits: uint8 [C, H, W]. `formats` are Pillow's names of those that are read."""
    channels, height, width = image_shape
    if channels not in MODES:
        raise UnsupportedQuery(f"pictures can be turned into 1 or 3 channels, not into {channels}", parameter=name)
    data, orientation = separate(data)
    image = _open(data, name, max_pixels, formats)
    try:
        if image.format == "JPEG" and image.width * image.height > REDUCED_PIXELS:
            image.draft(None, (OVERSAMPLING * max(height, width),) * 2)
        image.load()  # Pillow turns some of the other formats upright itself, and then forgets their orientation
        orientation = orientation if image.format in FORMATS else orientation_of(image.getexif().tobytes())
        upright = image.transpose(TURNS[orientation]) if orientation in TURNS else image
        opaque = _without_transparency(_eight_bit(upright))
        converted = opaque if opaque.mode == MODES[channels] else opaque.convert(MODES[channels])
        sized = fit(converted, width, height)
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged data
        raise UnreadablePicture(f"{name} is damaged: it cannot be decoded to the end", parameter=name) from error
    return np.ascontiguousarray(np.asarray(sized).reshape(height, width, channels).transpose(2, 0, 1))


def decoding_work(data: bytes, *, name: str = "the picture", max_pixels: int = MAX_PIXELS) -> int:
    """How much work it is to decode the picture, in pixels of a picture with one scan. Reads no pixel.

    Raises UnreadablePicture and PictureTooLarge.
    """
    data = separate(data).data
    image = _open(data, name, max_pixels)
    scans = _scans(data) if image.format == "JPEG" else 1
    return round(image.width * image.height * (1 + PIXELS_PER_SCAN * (scans - 1)))


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """The picture cut to the proportions asked for around its centre, and resized with an antialiasing filter.

    The picture itself where it has this size already.
    """
    if image.size == (width, height):
        return image
    return _centre(image, width / height).resize((width, height), Image.Resampling.BILINEAR)


def encode_png(image: NDArray[np.float32]) -> bytes:
    """A grey or colour PNG of pixels [C, H, W], which are clipped to 0..1 and rounded to 8 bits."""
    stream = io.BytesIO()
    to_picture(image).save(stream, format="PNG")
    return stream.getvalue()


def to_picture(image: NDArray[np.float32]) -> Image.Image:
    """A picture of mode L or RGB of pixels [C, H, W], clipped to 0..1 and rounded to 8 bits. C must be 1 or 3."""
    return from_bytes(to_bytes(image))


def to_bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pixels of any shape in 8 bits: clipped to 0..1 and rounded."""
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def from_bytes(image: NDArray[np.uint8]) -> Image.Image:
    """A picture of mode L or RGB of bytes [C, H, W]. C must be 1 or 3."""
    if image.shape[0] == 1:
        return Image.fromarray(np.ascontiguousarray(image[0]))
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def _open(data: bytes, name: str, max_pixels: int, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Read the header, and refuse the picture by what it says."""
    if not data:
        raise UnreadablePicture(f"{name} is empty", parameter=name)
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError as error:
        raise UnreadablePicture(f"{name} is no {listed(formats)} picture", parameter=name) from error
    except Exception as error:  # the parsers raise many kinds of errors on a bad header
        raise UnreadablePicture(f"{name} is damaged: its header cannot be read", parameter=name) from error
    most = max(max_pixels, min(REDUCIBLE * max_pixels, LARGEST_JPEG)) if image.format in JPEGS else max_pixels
    if image.width * image.height > most:
        raise PictureTooLarge(
            f"{name} is too large, at {image.width}x{image.height} more than the {most:,} pixels that are "
            "accepted; send a smaller one",
            parameter=name,
        )
    # Phones write JPEGs with previews behind the photo. Without its metadata such a file is the photo.
    if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
        raise UnreadablePicture(f"{name} is animated; send one still picture", parameter=name)
    if image.format == "JPEG" and _scans(data) > MAX_SCANS:
        raise PictureTooLarge(
            f"{name} has more than {MAX_SCANS} scans; save it again as a baseline JPEG", parameter=name
        )
    return image


def listed(formats: tuple[str, ...]) -> str:
    """The formats, as in "JPEG, PNG or WebP"."""
    names = ["WebP" if each == "WEBP" else each for each in formats]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _scans(data: bytes) -> int:
    """The scans of the first picture of a JPEG file; counting stops beyond MAX_SCANS."""
    position = scans = 0
    while scans <= MAX_SCANS and (found := MARKER.search(data, position)) is not None:
        position, kind = found.end(), data[found.start() + 1]
        if kind == END:
            break
        if kind not in (START, PRIVATE):  # these have no length
            position += int.from_bytes(data[position : position + 2], "big")
        scans += kind == START_OF_SCAN
    return scans


def _centre(image: Image.Image, proportion: float) -> Image.Image:
    """The largest part around the centre whose width is `proportion` times its height.

    ImageOps.fit does nearly the same, but the parts that it cuts off bleed into the edges.
    """
    width = max(1, min(image.width, round(image.height * proportion)))
    height = max(1, min(image.height, round(image.width / proportion)))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Reduce sixteen-bit grey to eight bits; Pillow would clip it instead of scaling it."""
    if image.mode not in SIXTEEN_BIT_MODES:
        return image
    values = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _without_transparency(image: Image.Image) -> Image.Image:
    """Put the image over white, as a page shows it; the colours under full transparency are noise."""
    if not image.has_transparency_data:
        return image
    coloured = image.convert("RGBA")
    white = Image.new("RGBA", coloured.size, "white")
    return Image.alpha_composite(white, coloured)
