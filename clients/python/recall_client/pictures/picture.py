"""`Picture`, a picture that the server sent, and the types of pictures that a caller may send."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from recall_client.pictures.pillow import require_pillow

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from PIL import Image

PictureLike: TypeAlias = "str | os.PathLike[str] | bytes | Picture | Image.Image | NDArray[Any]"
"""One picture to send: the path of a file, the bytes of a file, a recalled `Picture`, a Pillow image, or a NumPy array
[height, width] or [height, width, channels] with 1, 3 or 4 channels, of uint8 or of floats from 0 to 1."""

Pictures: TypeAlias = "Iterable[PictureLike]"
"""Several pictures: any iterable of them, or one NumPy array [N, height, width] or [N, height, width, channels]."""


@dataclass(frozen=True)
class Picture:
    """A picture as the bytes of a PNG file. Notebooks display it."""

    png: bytes = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the PNG file to `path` and return the path."""
        target = Path(path)
        target.write_bytes(self.png)
        return target

    def to_pillow(self) -> Image.Image:
        """Return a Pillow image. Needs Pillow."""
        pillow = require_pillow("to turn a picture into a Pillow image")
        image: Image.Image = pillow.open(BytesIO(self.png))
        image.load()
        return image

    def to_numpy(self) -> NDArray[numpy.uint8]:
        """Return the pixels as uint8 [height, width, channels]. Needs NumPy and Pillow.

        `RecallClient.recall_arrays` returns the exact floats instead.
        """
        import numpy

        array = numpy.array(self.to_pillow(), dtype=numpy.uint8)
        return array[:, :, None] if array.ndim == 2 else array

    def _repr_png_(self) -> bytes:
        return self.png
