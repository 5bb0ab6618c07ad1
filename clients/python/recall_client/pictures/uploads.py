"""Pictures on both ways: what a caller may send, and what the server recalls."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from PIL import Image

PictureLike: TypeAlias = "str | os.PathLike[str] | bytes | Picture | Image.Image | NDArray[Any]"
"""A picture to send: a file's path, the bytes of one, a `Picture` that was recalled, a Pillow image, or a NumPy array
[height, width] or [height, width, channels] with 1, 3 or 4 channels of uint8, or of floats within 0 to 1."""

Pictures: TypeAlias = "Iterable[PictureLike]"
"""Several pictures: any iterable of them, or one NumPy array [N, height, width] or [N, height, width, channels]."""

_CHANNELS = (1, 3, 4)
_AT_ONCE, _BYTES_AT_ONCE = 250, 16 * 2**20  # pictures and bytes of one request: a fraction of what servers accept
_SENDABLE_MODES = ("1", "I;16", "L", "LA", "P", "RGB", "RGBA")


@dataclass(frozen=True)
class Picture:
    """A picture as the bytes of a PNG file. Notebooks show it; turning it into anything else needs Pillow or NumPy."""

    png: bytes = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the PNG to `path`, and return it."""
        target = Path(path)
        target.write_bytes(self.png)
        return target

    def to_pillow(self) -> Image.Image:
        """As a Pillow image. Needs Pillow."""
        image_module = _pillow_image("to turn a picture into a Pillow image")
        image: Image.Image = image_module.open(BytesIO(self.png))
        image.load()
        return image

    def to_numpy(self) -> NDArray[numpy.uint8]:
        """As uint8 [height, width, channels]. Needs NumPy and Pillow; `recall_arrays` gives the exact floats."""
        import numpy

        array = numpy.array(self.to_pillow(), dtype=numpy.uint8)
        return array[:, :, None] if array.ndim == 2 else array

    def _repr_png_(self) -> bytes:
        return self.png


@dataclass(frozen=True)
class Upload:
    """One picture on its way: the name that the server's messages call it by, and the bytes of an image file."""

    filename: str
    data: bytes = field(repr=False)


def uploads(pictures: Pictures, *, of: str) -> tuple[Upload, ...]:
    """Every picture as the bytes of an image file, in order; `of` says in messages whose pictures they are.

    Raises ValueError for none at all or for an array that is no picture, TypeError for one picture where several
    belong or for something that is no picture, OSError for a file that cannot be read.
    """
    return tuple(_each(pictures, of))


def batches(pictures: Pictures, *, of: str) -> Iterator[tuple[Upload, ...]]:
    """The same, as many at a time as go well into one request: only those are held in memory. Raises as `uploads`."""
    batch: list[Upload] = []
    size = 0
    for upload in _each(pictures, of):
        if batch and (len(batch) == _AT_ONCE or size + len(upload.data) > _BYTES_AT_ONCE):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(upload)
        size += len(upload.data)
    yield tuple(batch)


def _each(pictures: Pictures, of: str) -> Iterator[Upload]:
    if isinstance(pictures, str | bytes | os.PathLike | Picture) or _is_pillow(pictures) or _is_one_array(pictures):
        raise TypeError(f"{of}: a list of pictures belongs here, not a single one; write [picture]")
    number = 0
    for number, picture in enumerate(pictures, start=1):
        yield _upload(picture, f"{of}, picture {number}")
    if number == 0:
        raise ValueError(f"{of}: there are no pictures; at least one is needed")


def _upload(picture: PictureLike, name: str) -> Upload:
    if isinstance(picture, bytes):
        return Upload(name, picture)
    if isinstance(picture, str | os.PathLike):
        # A name in no known encoding cannot be sent as it is, and only serves messages.
        return Upload(Path(picture).name.encode(errors="replace").decode(), Path(picture).read_bytes())
    if isinstance(picture, Picture):
        return Upload(f"{name}.png", picture.png)
    if _is_pillow(picture):
        return Upload(f"{name}.png", _encode(picture, name))
    if _is_array(picture):
        return Upload(f"{name}.png", _encode(_image_from_array(picture, name), name))
    raise TypeError(f"{name}: a path, bytes, a Pillow image or a NumPy array is needed, not {type(picture).__name__}")


def _encode(image: Image.Image, name: str) -> bytes:
    """PNG bytes of an image that stands upright: Pillow keeps a photograph's turn in EXIF, which a PNG here loses."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("F", "I"):
        raise ValueError(
            f"{name}: a Pillow image of mode {upright.mode} has no known range; convert it to L or RGB first"
        )
    encoded = BytesIO()
    (upright if upright.mode in _SENDABLE_MODES else upright.convert("RGB")).save(encoded, format="PNG")
    return encoded.getvalue()


def _image_from_array(array: NDArray[Any], name: str) -> Image.Image:
    import numpy

    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS) or 0 in array.shape:
        raise ValueError(
            f"{name}: an array of shape {array.shape}; pictures are [height, width] or [height, width, channels] "
            "with 1, 3 or 4 channels (channels come last: array.transpose(1, 2, 0) moves them there)"
        )
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):  # in this form NaN is refused too
            raise ValueError(f"{name}: floats from {array.min():g} to {array.max():g}; they must lie within 0 to 1")
        array = numpy.rint(array * 255).astype(numpy.uint8)
    if array.dtype != numpy.uint8:
        raise ValueError(f"{name}: an array of {array.dtype}; pictures are uint8, or floats within 0 to 1")
    image_module = _pillow_image("to send a NumPy array")
    image: Image.Image = image_module.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    return image


def _is_pillow(value: object) -> TypeGuard[Image.Image]:
    """Whether this is a Pillow image, without importing Pillow: there is none unless its module is loaded."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _is_array(value: object) -> TypeGuard[NDArray[Any]]:
    module = sys.modules.get("numpy")
    return module is not None and isinstance(value, module.ndarray)


def _is_one_array(value: object) -> bool:
    """Whether an array stands where several belong: [height, width, channels] would fall apart into wrong pictures."""
    return _is_array(value) and (value.ndim < 3 or (value.ndim == 3 and value.shape[2] in _CHANNELS))


def _pillow_image(purpose: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"Pillow is needed {purpose}: pip install 'recall-client[images]'") from error
    return Image
