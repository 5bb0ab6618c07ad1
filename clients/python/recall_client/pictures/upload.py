"""Pictures on their way to the server: whatever the caller holds, as the bytes of image files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from recall_client.pictures.picture import Picture, PictureLike, Pictures
from recall_client.pictures.pillow import CHANNELS, NATIVE, converted_formats, encode_array, encode_png

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

_BATCH_PICTURES, _BATCH_BYTES = 250, 16 * 2**20  # of one request; servers accept several times as much


@dataclass(frozen=True)
class Upload:
    """One picture of a request: the name that messages call it by, and the bytes of an image file."""

    filename: str
    data: bytes = field(repr=False)


def uploads(pictures: Pictures, *, of: str) -> tuple[Upload, ...]:
    """Return every picture as an image file, in order. Messages name a picture by `of` and its number.

    Raises ValueError for no pictures or for an array that is not a picture, TypeError for one picture where several
    are expected or for an object that is not a picture, and OSError for a file that cannot be read.
    """
    return tuple(_each(pictures, of))


def batches(pictures: Pictures, *, of: str) -> Iterator[tuple[Upload, ...]]:
    """Yield the pictures in batches that fit one request; only one batch is held in memory. Raises as `uploads`."""
    batch: list[Upload] = []
    size = 0
    for upload in _each(pictures, of):
        if batch and (len(batch) == _BATCH_PICTURES or size + len(upload.data) > _BATCH_BYTES):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(upload)
        size += len(upload.data)
    yield tuple(batch)


def _each(pictures: Pictures, of: str) -> Iterator[Upload]:
    if isinstance(pictures, str | bytes | os.PathLike | Picture) or _is_pillow(pictures) or _is_one_array(pictures):
        raise TypeError(f"{of}: a list of pictures is needed, not a single picture; write [picture]")
    number = 0
    for number, picture in enumerate(pictures, start=1):
        yield _upload(picture, f"{of}, picture {number}")
    if number == 0:
        raise ValueError(f"{of}: there are no pictures; at least one is needed")


def _upload(picture: PictureLike, name: str) -> Upload:
    if isinstance(picture, bytes):
        return Upload(name, _readable(picture, name))
    if isinstance(picture, str | os.PathLike):
        # A file name in an unknown encoding cannot be sent as it is; messages are all that it serves.
        filename = Path(picture).name.encode(errors="replace").decode()
        return Upload(filename, _readable(Path(picture).read_bytes(), filename))
    if isinstance(picture, Picture):
        return Upload(f"{name}.png", picture.png)
    if _is_pillow(picture):
        return Upload(f"{name}.png", encode_png(picture, name))
    if _is_array(picture):
        return Upload(f"{name}.png", encode_array(picture, name))
    raise TypeError(f"{name}: a path, bytes, a Pillow image or a NumPy array is needed, not {type(picture).__name__}")


def _readable(data: bytes, name: str) -> bytes:
    """Return `data`, or a PNG file of its first frame where only Pillow reads the format.

    Where Pillow is missing or the file is damaged, `data` is sent and the server's answer says what is wrong.
    """
    if data.startswith(NATIVE):
        return data
    try:
        from PIL import Image

        return encode_png(Image.open(BytesIO(data), formats=converted_formats()), name)
    except Exception:  # Pillow's parsers raise a dozen kinds of error on damaged data
        return data


def _is_pillow(value: object) -> TypeGuard[Image.Image]:
    """Tell whether `value` is a Pillow image, without importing Pillow."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _is_array(value: object) -> TypeGuard[NDArray[Any]]:
    module = sys.modules.get("numpy")
    return module is not None and isinstance(value, module.ndarray)


def _is_one_array(value: object) -> bool:
    """Tell whether `value` is one picture: an array [height, width, channels] would fall apart into its rows."""
    return _is_array(value) and (value.ndim < 3 or (value.ndim == 3 and value.shape[2] in CHANNELS))
