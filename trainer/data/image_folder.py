"""Reads pictures from folders, with the decoder that the server uses for uploads.

First the headers of all pictures are read. Then the pictures are decoded and resized one by one, so memory holds at
most one picture at full size. Unreadable files are skipped and listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recall_server.core.io.pictures import FORMATS, MAX_PIXELS, SIXTEEN_BIT_MODES, decode
from recall_server.errors import InvalidDataset, InvalidRequest

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")  # of the formats that the decoder accepts
SEPARATOR = "/"  # never part of a file name
GREY_MODES = frozenset({"1", "L", "LA", "La"}) | SIXTEEN_BIT_MODES


@dataclass(frozen=True)
class ImageFolder:
    """A survey of a folder of class folders: its files in the order of their classes, with `labels` [N].

    `names` joins the file names of each class in one string, about ten bytes per file where a Path takes 300.
    `shorter_side` is that of the first readable picture. `unreadable` explains, by position, each file whose header
    cannot be used.
    """

    folder: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    grey: bool
    shorter_side: int
    unreadable: dict[int, str]

    def files(self) -> Iterator[Path]:
        """The paths of all files, in order."""
        return _files(self.folder, self.classes, self.names)


def survey(folder: Path) -> ImageFolder:
    """Read the headers of FOLDER/class name/picture.* without decoding a picture.

    Raises InvalidDataset for fewer than two class folders, and for class folders without a readable picture.
    """
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(classes) < 2:
        raise InvalidDataset(
            f"{folder.name} has pictures in {len(classes)} class folder{'s' * (len(classes) != 1)}; "
            "it must contain two or more folders of pictures, each named after its class"
        )
    names = tuple(SEPARATOR.join(_pictures(folder / name)) for name in classes)
    empty = [name for name, joined in zip(classes, names, strict=True) if not joined]
    if empty:
        raise InvalidDataset(
            f"{folder.name}: no picture in the class folder{'s' * (len(empty) != 1)} {', '.join(empty[:5])}; "
            f"supported suffixes are {', '.join(SUFFIXES)}"
        )
    labels = np.repeat(np.arange(len(classes)), [joined.count(SEPARATOR) + 1 for joined in names])
    readable = np.ones(len(labels), dtype=bool)
    all_grey, first_side = True, 0
    unreadable: dict[int, str] = {}
    for position, path in enumerate(_files(folder, classes, names)):
        try:
            grey, side = _header(path)
        except InvalidDataset as error:
            unreadable[position], readable[position] = str(error), False
        else:
            all_grey, first_side = all_grey and grey, first_side or side
    found = set(labels[readable].tolist())
    lost = [name for label, name in enumerate(classes) if label not in found]
    if lost:
        raise InvalidDataset(f"no picture of {', '.join(lost[:5])} can be read: {next(iter(unreadable.values()))}")
    return ImageFolder(folder, classes, names, labels, all_grey, first_side, unreadable)


def read_pictures(
    folder: Path, image_shape: tuple[int, int, int], most: int
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The pictures [N, C, H, W] of one folder, and a sentence for each unreadable file.

    Of more than `most` files, an evenly spaced selection is read. Raises InvalidDataset if no picture is readable.
    """
    if not folder.is_dir():
        raise InvalidDataset(f"{folder.name} is not a folder of pictures")
    names = _pictures(folder)
    images, unreadable = [], []
    for name in names[:: max(1, -(-len(names) // most))]:
        try:
            images.append(decode_file(folder / name, image_shape))
        except InvalidDataset as error:
            unreadable.append(str(error))
    if not images:
        reason = unreadable[0] if unreadable else f"supported suffixes are {', '.join(SUFFIXES)}"
        raise InvalidDataset(f"no picture in {folder.name} can be read: {reason}")
    return np.stack(images), tuple(unreadable)


def _files(folder: Path, classes: tuple[str, ...], names: tuple[str, ...]) -> Iterator[Path]:
    return (
        folder / label / name for label, joined in zip(classes, names, strict=True) for name in joined.split(SEPARATOR)
    )


def _pictures(folder: Path) -> list[str]:
    """The sorted names of the files with a supported suffix."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and not entry.is_dir()
        )


def _header(path: Path) -> tuple[bool, int]:
    """(whether the picture is grey, its shorter side, which no EXIF rotation changes)."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            grey, (width, height) = picture.mode in GREY_MODES, picture.size
    except Exception as error:  # a corrupt header can make the parsers raise anything
        raise InvalidDataset(f"{_name(path)} is not a readable JPEG, PNG or WebP picture: {error}") from error
    if width * height > MAX_PIXELS:
        raise InvalidDataset(f"{_name(path)} is too large: {width}x{height} is more than {MAX_PIXELS:,} pixels")
    return grey, min(width, height)


def decode_file(path: Path, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One picture, uint8 [C, H, W], decoded as by the server. Raises InvalidDataset for one that it would refuse."""
    try:
        pixels = decode(path.read_bytes(), image_shape, name=_name(path))
    except OSError as error:
        raise InvalidDataset(f"{_name(path)} cannot be read: {error.strerror or error}") from error
    except InvalidRequest as error:
        raise InvalidDataset(str(error)) from error
    return np.rint(pixels * 255).astype(np.uint8)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
