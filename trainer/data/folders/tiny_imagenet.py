"""Reads Tiny ImageNet (200 classes, 64x64 pixels, colour) from the folder of its archive.

wnids.txt                       the classes, as WordNet ids
words.txt                       an id, a tab and its comma-separated names, for all of WordNet
train/ID/images/*.JPEG          training pictures
val/images/*.JPEG               test pictures, as in the literature, because those in the folder test have no labels
val/val_annotations.txt         a file name, a tab, the id of its class, and more
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from recall_server.errors import InvalidDataset
from trainer.data.folders.image_folder import decode_file
from trainer.data.splits import Split

SHAPE = (3, 64, 64)  # the few grey pictures are converted to colour
MARK = "wnids.txt"
MISSING = (
    "tinyimagenet was not found, and no library includes it: unpack tiny-imagenet-200.zip, which Stanford's course "
    "CS231n publishes, and pass its folder, or put it at $RECALL_DATA/tinyimagenet"
)


def holds_tiny_imagenet(folder: Path) -> bool:
    """Whether the folder has the layout of the archive."""
    return (folder / MARK).is_file() and (folder / "train").is_dir()


def read_tiny_imagenet(folder: Path) -> tuple[tuple[str, ...], Split, Split]:
    """(class names, training pictures, test pictures).

    A class is named by the first of its WordNet names, followed by its id if two classes share that name. Raises
    InvalidDataset for a missing or unreadable file.
    """
    ids = _lines(folder / MARK)
    positions = {each: position for position, each in enumerate(ids)}
    train = [
        (path, position)
        for each, position in positions.items()
        for path in sorted((folder / "train" / each / "images").glob("*.JPEG"))
    ]
    test = []
    for line in _lines(folder / "val" / "val_annotations.txt"):
        file, each = [*line.split("\t"), ""][:2]
        if each not in positions:
            raise InvalidDataset(f"val_annotations.txt has the class {each!r}, which is not in {MARK}")
        test.append((folder / "val" / "images" / file, positions[each]))
    return _names(folder, ids), _read(train, "train"), _read(test, "val")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"Tiny ImageNet's {path.name} cannot be read: {error}") from error


def _names(folder: Path, ids: Sequence[str]) -> tuple[str, ...]:
    words: Mapping[str, str] = dict(line.split("\t", 1) for line in _lines(folder / "words.txt") if "\t" in line)
    names = [words.get(each, each).split(",")[0].strip() for each in ids]
    shared = Counter(names)
    return tuple(name if shared[name] == 1 else f"{name} ({each})" for name, each in zip(names, ids, strict=True))


def _read(files: Iterable[tuple[Path, int]], split: str) -> Split:
    images, labels = [], []
    for path, label in files:
        images.append(decode_file(path, SHAPE))
        labels.append(label)
    if not images:
        raise InvalidDataset(f"Tiny ImageNet's folder {split} has no pictures; was the archive unpacked completely?")
    return Split(torch.from_numpy(np.stack(images)), torch.tensor(labels))
