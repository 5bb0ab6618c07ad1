"""The pictures of a folder of class folders, each treated as the server treats the pictures that it is sent.

First the headers of all pictures are read, then one picture after another is decoded and brought to its final size:
never are two pictures in memory at full size. A file that cannot be read is left out and named.
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
    """What the headers say: `files` in the order of their classes, with `labels` [N].

    `shorter_side` is that of the first picture; `unreadable` has a sentence for every file, by its position, whose
    header is of no use.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: NDArray[np.int64]
    grey: bool
    shorter_side: int
    unreadable: dict[int, str]


def survey(folder: Path) -> ImageFolder:
    """Look at FOLDER/class name/picture.* without decoding a picture.

    Raises InvalidDataset naming the class folders without a picture whose header the server would accept.
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
    files = tuple(path for members in paths for path in members)
    labels = np.repeat(np.arange(len(paths)), [len(members) for members in paths])
    headers: dict[int, tuple[bool, int]] = {}
    unreadable: dict[int, str] = {}
    for position, path in enumerate(files):
        try:
            headers[position] = _header(path)
        except InvalidDataset as error:
            unreadable[position] = str(error)
    readable = set(labels[list(headers)].tolist())
    lost = [path.name for label, path in enumerate(class_folders) if label not in readable]
    if lost:
        raise InvalidDataset(f"no picture of {', '.join(lost[:5])} can be read: {next(iter(unreadable.values()))}")
    return ImageFolder(
        classes=tuple(path.name for path in class_folders),
        files=files,
        labels=labels,
        grey=all(grey for grey, _ in headers.values()),
        shorter_side=next(iter(headers.values()))[1],
        unreadable=unreadable,
    )


def read_pictures(
    folder: Path, image_shape: tuple[int, int, int], most: int
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The pictures [N, C, H, W] of one folder, evenly spread over its files where it has more than `most`.

    Also returns a sentence for each file that cannot be read. Raises InvalidDataset where none can.
    """
    if not folder.is_dir():
        raise InvalidDataset(f"{folder.name} is no folder of pictures")
    files = _pictures(folder)
    images, unreadable = [], []
    for path in files[:: max(1, -(-len(files) // most))]:
        try:
            images.append(decode_file(path, image_shape))
        except InvalidDataset as error:
            unreadable.append(str(error))
    if not images:
        reason = unreadable[0] if unreadable else f"what can be read ends in {', '.join(SUFFIXES)}"
        raise InvalidDataset(f"no picture in {folder.name} can be read: {reason}")
    return np.stack(images), tuple(unreadable)


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


def decode_file(path: Path, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One picture, uint8 [C, H, W], as the server would see it; InvalidDataset, naming it, where it would refuse."""
    try:
        pixels = decode(path.read_bytes(), image_shape, name=_name(path))
    except OSError as error:
        raise InvalidDataset(f"{_name(path)} cannot be read: {error.strerror or error}") from error
    except InvalidRequest as error:
        raise InvalidDataset(str(error)) from error
    return np.rint(pixels * 255).astype(np.uint8)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
