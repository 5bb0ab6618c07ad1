"""Pillow, where it is installed: image files, arrays and Pillow images to PNG."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

CHANNELS = (1, 3, 4)  # of an array [height, width, channels]
NATIVE = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")  # how the files begin that the server reads: JPEG, PNG, WebP
_NATIVE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")
_CONVERTED = ("AVIF", "BMP", "GIF", "HEIF", "TIFF")  # formats that are sent as PNG, where Pillow has them
_ORIENTATION = 0x0112  # the EXIF tag
_PNG_MODES = ("1", "I;16", "L", "LA", "P", "RGB", "RGBA")


def require_pillow(purpose: str) -> Any:
    """Return the module `PIL.Image`. Raises ImportError that says what to install."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"Pillow is needed {purpose}: pip install 'recall-client[images]'") from error
    return Image


def converted_formats() -> list[str]:
    """Return the formats that this Pillow reads and that are sent as PNG. AVIF and HEIF may need a plug-in."""
    from PIL import Image

    return sorted({form for form in Image.registered_extensions().values() if form in _CONVERTED})


def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes, in lower case, of the files that can be sent; without Pillow those the server reads."""
    try:
        from PIL import Image
    except ImportError:
        return _NATIVE_SUFFIXES
    found = [suffix for suffix, form in Image.registered_extensions().items() if form in _CONVERTED]
    return (*_NATIVE_SUFFIXES, *sorted(found))


def upright(image: Image.Image) -> Image.Image:
    """Return `image` turned as its EXIF orientation says; an orientation that cannot be read turns nothing.

    `ImageOps.exif_transpose` also rewrites the remaining EXIF data, and so fails on any other tag that is damaged.
    """
    from PIL import Image

    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow's EXIF parser raises half a dozen kinds of error on damaged data
        orientation = 1
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def encode_png(image: Image.Image, name: str) -> bytes:
    """Return a PNG file of the upright image, without its metadata. Raises ValueError for a mode of unknown range."""
    image = upright(image)
    if image.mode in ("F", "I"):
        raise ValueError(f"{name}: a Pillow image of mode {image.mode} has no known range; convert it to L or RGB")
    encoded = BytesIO()
    # Without icc_profile=None Pillow would copy the profile, however large or damaged it is.
    (image if image.mode in _PNG_MODES else image.convert("RGB")).save(encoded, format="PNG", icc_profile=None)
    return encoded.getvalue()


def encode_array(array: NDArray[Any], name: str) -> bytes:
    """Return a PNG file of [height, width] or [height, width, channels]. Raises ValueError for other arrays.

    Floats run from 0 to 1; what rounds to 0 or 255 is accepted, since arithmetic may leave 1.0000001.
    """
    import numpy

    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in CHANNELS) or 0 in array.shape:
        raise ValueError(
            f"{name}: the array has shape {array.shape}; a picture is [height, width] or [height, width, channels] "
            "with 1, 3 or 4 channels (channels come last: array.transpose(1, 2, 0) moves them there)"
        )
    if array.dtype.kind == "f":
        levels = numpy.rint(array.astype(numpy.float64) * 255)
        if not (levels.min() >= 0 and levels.max() <= 255):  # this form also refuses NaN
            raise ValueError(f"{name}: the floats run from {array.min():g} to {array.max():g}, not within 0 to 1")
        array = levels.astype(numpy.uint8)
    if array.dtype != numpy.uint8:
        raise ValueError(f"{name}: the array has dtype {array.dtype}; a picture is uint8, or floats from 0 to 1")
    pillow = require_pillow("to send a NumPy array")
    return encode_png(pillow.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array), name)
