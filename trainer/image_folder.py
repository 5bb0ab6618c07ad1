"""A folder of class folders -> arrays, every picture treated as the server treats the pictures that it is sent.

First the headers of all pictures are read, then one picture after another is decoded and brought to its final size:
never are two pictures in memory at full size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recall_server.errors import InvalidDataset, InvalidRequest
from recall_server.pictures import FORMATS, MAX_PIXELS, SIXTEEN_BIT_MODES, decode

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")  # of the formats that the decoder accepts
GREY_MODES = frozenset({"1", "L", "LA", "La"}) | SIXTEEN_BIT_MODES


@dataclass(frozen=True)
class ImageFolder:
    """What the headers say: `paths[i]` are the pictures of `classes[i]`; `shorter_side` is that of the first one."""

    classes: tuple[str, ...]
    paths: tuple[tuple[Path, ...], ...]
    grey: bool
    shorter_side: int

    def read(self, image_shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Decode every picture to (channels, height, width) -> (images [N, H, W, C], labels [N])."""
        channels, height, width = image_shape
        labels = np.repeat(np.arange(len(self.classes)), [len(members) for members in self.paths])
        images = np.empty((len(labels), height, width, channels), dtype=np.uint8)
        members = (path for of_class in self.paths for path in of_class)
        for image, path in zip(images, members, strict=True):
            image[...] = _decode(path, image_shape)
        return images, labels


def survey(folder: Path) -> ImageFolder:
    """Look at FOLDER/class name/picture.* without decoding a picture.

    Raises InvalidDataset naming the class folder without a picture, or the first picture (as CLASS/FILE) that the
    server would refuse by its header.
    """
    class_folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(class_folders) < 2:
        raise InvalidDataset(
            f"{folder.name} has pictures in {len(class_folders)} class folder{'s' * (len(class_folders) != 1)}; "
            "it must hold two or more folders, each named as a class and filled with pictures"
        )
    paths = tuple(_pictures(path) for path in class_folders)
    empty = [path.name for path, members in zip(class_folders, paths, strict=True) if not members]
    if empty:
        raise InvalidDataset(
            f"{folder.name}: no picture in the class folder{'s' * (len(empty) != 1)} {', '.join(empty[:5])}; "
            f"what can be read ends in {', '.join(SUFFIXES)}"
        )
    headers = [_header(path) for members in paths for path in members]
    return ImageFolder(
        classes=tuple(path.name for path in class_folders),
        paths=paths,
        grey=all(grey for grey, _ in headers),
        shorter_side=headers[0][1],
    )


def _pictures(folder: Path) -> tuple[Path, ...]:
    return tuple(
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )


def _header(path: Path) -> tuple[bool, int]:
    """(whether it is grey, its shorter side). A quarter turn by EXIF swaps the sides: the shorter one stays."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            grey, (width, height) = picture.mode in GREY_MODES, picture.size
    except Exception as error:  # a header that lies makes the parsers raise anything
        raise InvalidDataset(f"{_name(path)} is not a readable JPEG, PNG or WebP picture: {error}") from error
    if width * height > MAX_PIXELS:
        raise InvalidDataset(f"{_name(path)} is too large: {width}x{height} is more than {MAX_PIXELS:,} pixels")
    return grey, min(width, height)


def _decode(path: Path, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One picture, uint8 [H, W, C], as the server would see it."""
    try:
        pixels = decode(path.read_bytes(), image_shape, name=_name(path))
    except OSError as error:
        raise InvalidDataset(f"{_name(path)} cannot be read: {error}") from error
    except InvalidRequest as error:
        raise InvalidDataset(str(error)) from error
    return np.rint(pixels.transpose(1, 2, 0) * 255).astype(np.uint8)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
