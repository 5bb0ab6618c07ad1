"""Reads pictures from folders, with the decoder that the server uses for uploads.

First every file is read once, for its header and its content's digest. Then the pictures are decoded and resized one by
one, so memory holds at most one picture at full size. Files that cannot be used are skipped and listed.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from recall_server.core.io.labels import composed
from recall_server.core.io.metadata import separate
from recall_server.core.io.pictures import FORMATS, SIXTEEN_BIT_MODES, decode_bytes, listed
from recall_server.errors import InvalidDataset, InvalidRequest
from trainer.data.splits import TEST, TEST_SHARE, check_class_names, draw_roles

# Formats of one's own files beside the server's, where Pillow or a plug-in reads them. Others are rare, and some start
# other programs.
FURTHER_FORMATS = frozenset({"AVIF", "BMP", "GIF", "HEIF", "TIFF"})
MOST_PIXELS = 200_000_000  # of one picture
SEPARATOR = "\0"  # never part of a path
GREY_MODES = frozenset({"1", "L", "LA", "La"}) | SIXTEEN_BIT_MODES


@dataclass(frozen=True)
class ImageFolder:
    """A survey of a folder of class folders: its files in the order of their classes, with `labels` [N].

    `folders` are the names of the class folders, and `classes` the same names in composed Unicode. `names` joins the
    paths of each class's files in one string, about ten bytes per file where a Path takes 300. `places` [N] in 0..1 are
    drawn by the content of each file. `shorter_side` is that of the first readable picture. `unreadable` explains, by
    position, each picture whose header cannot be used, and `skipped` names each file and folder that was left out.
    """

    folder: Path
    folders: tuple[str, ...]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    places: NDArray[np.float64]
    grey: bool
    shorter_side: int
    unreadable: dict[int, str]
    skipped: tuple[str, ...]

    def files(self) -> Iterator[Path]:
        """The paths of all files, in order."""
        return _files(self.folder, self.folders, self.names)


def survey(folder: Path) -> ImageFolder:
    """Read the files of FOLDER/class name/**/picture.* without decoding a picture.

    Names that begin with a dot are ignored. Raises InvalidDataset for fewer than two class folders with pictures, for
    a class none of whose pictures is readable, for folders whose names cannot be labels, for two folders whose names
    look the same, and for a folder that cannot be read.
    """
    found, skipped = _class_folders(folder)
    classes = tuple(map(composed, found))
    check_class_names(folder.name, classes)
    if len(set(classes)) < len(classes):
        twin = next(name for name in found if classes.count(composed(name)) > 1)
        raise InvalidDataset(f"{folder.name} has two folders whose names look the same, {twin!r}; rename one")
    names = tuple(SEPARATOR.join(files) for files in found.values())
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in found.values()])
    places = np.ones(len(labels))
    all_grey, first_side = True, 0
    unreadable: dict[int, str] = {}
    for position, path in enumerate(_files(folder, tuple(found), names)):
        try:
            data = path.read_bytes()
            places[position] = _place(data)
            grey, side = _header(data, path)
        except OSError as error:
            unreadable[position] = f"{_name(path)} cannot be read: {error.strerror or error}"
        except InvalidDataset as error:
            unreadable[position] = str(error)
        else:
            all_grey, first_side = all_grey and grey, first_side or side
    lost = set(range(len(classes))) - {int(label) for at, label in enumerate(labels) if at not in unreadable}
    if lost:
        named = ", ".join(classes[label] for label in sorted(lost)[:5])
        raise InvalidDataset(f"no picture of {named} can be read: {next(iter(unreadable.values()))}")
    return ImageFolder(
        folder, tuple(found), classes, names, labels, places, all_grey, first_side, unreadable, tuple(skipped)
    )


def read_training_pictures(
    folder: Path, image_shape: tuple[int, int, int], most: int
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The pictures [N, C, H, W] of one class's folder, and a sentence for each file that was left out.

    Pictures that would be test pictures in a folder of class folders are not read. Of more than `most` others, an
    evenly spaced selection is. Raises InvalidDataset if no picture is readable.
    """
    if not folder.is_dir():
        raise InvalidDataset(f"{folder.name} is not a folder of pictures")
    names, unreadable = _pictures(folder)
    places = torch.tensor([_place_of(folder / name) for name in names], dtype=torch.float64)
    roles = draw_roles(torch.zeros(len(names), dtype=torch.int64), places, test=TEST_SHARE, validation=0)
    names = [name for name, role in zip(names, roles.tolist(), strict=True) if role != TEST or len(names) == 1]
    images = []
    for name in names[:: max(1, -(-len(names) // most))]:
        try:
            images.append(decode_file(folder / name, image_shape))
        except InvalidDataset as error:
            unreadable.append(str(error))
    if not images:
        reason = unreadable[0] if unreadable else f"supported suffixes are {', '.join(suffixes())}"
        raise InvalidDataset(f"no picture in {folder.name} can be read: {reason}")
    return np.stack(images), tuple(unreadable)


def suffixes() -> tuple[str, ...]:
    """The suffixes, in lower case, of the files that this Pillow and its plug-ins read here."""
    return tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in formats()))


def formats() -> tuple[str, ...]:
    """The names of the formats that this Pillow and its plug-ins read here."""
    return (*FORMATS, *sorted(FURTHER_FORMATS & set(Image.registered_extensions().values()) & Image.OPEN.keys()))


def decode_file(path: Path, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One picture, uint8 [C, H, W], decoded as by the server. Raises InvalidDataset for one that cannot be decoded."""
    try:
        data = path.read_bytes()
        return decode_bytes(data, image_shape, name=_name(path), max_pixels=MOST_PIXELS, formats=formats())
    except OSError as error:
        raise InvalidDataset(f"{_name(path)} cannot be read: {error.strerror or error}") from error
    except InvalidRequest as error:
        raise InvalidDataset(str(error)) from error


def _class_folders(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The paths of the pictures of each class folder, relative to it; and a sentence for all that was left out."""
    found: dict[str, list[str]] = {}
    skipped: list[str] = []
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InvalidDataset(f"{folder.name} cannot be read: {error.strerror or error}") from error
    for path in entries:
        if path.is_dir():
            pictures, others = _pictures(path)
            skipped += others if pictures else [*others, f"the folder {path.name} has no picture"]
            found |= {path.name: pictures} if pictures else {}
        elif path.suffix.lower() in suffixes():
            skipped.append(f"{path.name} is in no class folder")
    if len(found) < 2:
        raise InvalidDataset(
            f"{folder.name} has pictures in {len(found)} class folder{'s' * (len(found) != 1)}; it must contain two "
            f"or more folders of pictures, each named after its class; supported suffixes are {', '.join(suffixes())}"
        )
    return found, skipped


def _pictures(folder: Path) -> tuple[list[str], list[str]]:
    """The paths of the pictures at any depth, sorted, relative to the folder; and a sentence for every other file."""
    pictures: list[str] = []
    skipped: list[str] = []
    known = suffixes()
    for root, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(root).relative_to(folder)
        for name in names:
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in known:
                pictures.append(str(inside / name))
            else:
                skipped.append(f"{folder.name}/{inside / name} does not have the suffix of a picture")
    return sorted(pictures), sorted(skipped)


def _refuse(error: OSError) -> None:
    raise InvalidDataset(f"{Path(error.filename).name} cannot be read: {error.strerror or error}") from error


def _files(folder: Path, folders: tuple[str, ...], names: tuple[str, ...]) -> Iterator[Path]:
    return (
        folder / label / name for label, joined in zip(folders, names, strict=True) for name in joined.split(SEPARATOR)
    )


def _place_of(path: Path) -> float:
    """`_place` of a file; 1 if it cannot be read, which `decode_file` reports."""
    try:
        return _place(path.read_bytes())
    except OSError:
        return 1.0


def _place(data: bytes) -> float:
    """A number in 0..1 that depends on the content alone, and is uniform over contents."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") / 2**64


def _header(data: bytes, path: Path) -> tuple[bool, int]:
    """(whether the picture is grey, its shorter side, which no EXIF rotation changes)."""
    try:
        with Image.open(io.BytesIO(separate(data).data), formats=formats()) as picture:
            grey, (width, height) = picture.mode in GREY_MODES, picture.size
    except UnidentifiedImageError as error:
        raise InvalidDataset(f"{_name(path)} is no {listed(formats())} picture") from error
    except Exception as error:  # a corrupt header can make the parsers raise anything
        raise InvalidDataset(f"{_name(path)} is damaged: its header cannot be read: {error}") from error
    if width * height > MOST_PIXELS:
        raise InvalidDataset(f"{_name(path)} is too large: {width}x{height} is more than {MOST_PIXELS:,} pixels")
    return grey, min(width, height)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
