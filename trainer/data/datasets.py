"""Loads data sets as training, validation and test pictures.

A source is one of

* the bare name of a known data set: `digits` (from scikit-learn), a torchvision name, or `tinyimagenet` (which no
  library includes). It is read from the folder $RECALL_DATA/NAME if that is not empty, else from the library. A bare
  known name never means a folder in the working directory; write `./NAME` for that.
* the path of a folder of class folders, of Tiny ImageNet's own folder (`tiny_imagenet.py`), or of a folder with
  `train.npz` and `test.npz` (`images` uint8 [N, H, W, C] or [N, H, W], `labels` int [N], `classes` str). A bare name
  that is not a known data set and not a non-empty folder here is looked up in $RECALL_DATA.

The licence is known only for data sets that are loaded by their known name.

With a `Featuriser` the splits hold features of the pictures instead of the pictures.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from recall_server.errors import InvalidDataset
from trainer.data.cache import kept_in
from trainer.data.features import Featuriser
from trainer.data.folders.arrays import FILES, holds_arrays, read_arrays
from trainer.data.folders.folder_dataset import Observe, read_folder
from trainer.data.folders.tiny_imagenet import MISSING, holds_tiny_imagenet, read_tiny_imagenet
from trainer.data.splits import (
    TEST_SHARE,
    VALIDATION_SHARE,
    ImageDataset,
    Split,
    check_class_names,
    check_labels,
    hold_out,
)
from trainer.data.superclasses import groups_of

__all__ = ["LICENCES", "UNKNOWN_LICENCE", "ImageDataset", "Split", "load_dataset"]

UNKNOWN_LICENCE = "unknown: the owner's own"
LICENCES = {
    "digits": "UCI Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak), CC BY 4.0",
    "mnist": "MNIST (Y. LeCun, C. Cortes), CC BY-SA 3.0",
    "fashion-mnist": "Fashion-MNIST (Zalando SE), MIT",
    "cifar10": "CIFAR-10 (A. Krizhevsky), free for research with citation",
    "cifar100": "CIFAR-100 (A. Krizhevsky), free for research with citation",
    "svhn": "SVHN (Y. Netzer et al.), non-commercial use only",
    "tinyimagenet": "Tiny ImageNet (Stanford CS231n, from ImageNet), for non-commercial research and education",
}
TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
}


def load_dataset(
    source: str,
    *,
    image_size: int | None = None,
    usual_size: int | None = None,
    seed: int = 0,
    most_bytes: int | None = None,
    observe: Observe = lambda split: None,
    featuriser: Featuriser | None = None,
) -> ImageDataset:
    """Read a data set, and hold out a tenth of its training pictures of each class for validation.

    The module's docstring defines `source`. `image_size` resizes the pictures of a folder and is refused for other
    sources; `usual_size` is the default for it. At most `most_bytes` of a folder's pictures are kept in memory, while
    `observe` is called with all training pictures, in chunks. With a `featuriser` the splits hold
    features, a folder's pictures are decoded at the size of its encoder, and the digest is that of data and encoder.
    Raises InvalidDataset, with advice.
    """
    name, folder, licence = _locate(source)
    if featuriser is not None and image_size is not None:
        raise InvalidDataset("an image size cannot be chosen beside an encoder, which has its own")
    if folder is not None and not holds_arrays(folder) and not holds_tiny_imagenet(folder):
        return read_folder(
            name,
            folder,
            licence,
            image_size=usual_size if image_size is None else image_size,
            seed=seed,
            most_bytes=most_bytes,
            observe=observe,
            featuriser=featuriser,
        )
    if image_size is not None:
        raise InvalidDataset(
            f"the image size can only be chosen for a folder of pictures; the pictures of {name} have a fixed size"
        )
    classes, train, test = _read(name, folder)
    check_class_names(name, classes)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InvalidDataset(
            f"{name}: training and test pictures must have the same shape, not {list(train.images.shape[1:])} and "
            f"{list(test.images.shape[1:])} (channels, height, width)"
        )
    for split, part in (("training", train), ("test", test)):
        check_labels(name, split, part.labels, classes)
    digest = _digest(classes, train, test)
    if featuriser is not None:
        featuriser.expected = len(train) + len(test)
        digest = featuriser.digest(digest)
        train, test = (replace(split, images=featuriser(split.images)) for split in (train, test))
    train, validation = hold_out(train, VALIDATION_SHARE, seed)
    for chunk in train.chunks():
        observe(chunk)
    # Only a data set that was loaded by its known name has known groups; a folder of that name may hold anything.
    groups = {} if licence == UNKNOWN_LICENCE else groups_of(name, classes)
    return ImageDataset(name, classes, train, validation, test, digest, licence, groups=groups)


Read = tuple[tuple[str, ...], Split, Split]


def _locate(source: str) -> tuple[str, Path | None, str]:
    """(name of the data set, its folder or None if a library provides it, its licence)."""
    root = os.environ.get("RECALL_DATA")
    bare = bool(source) and source == Path(source).name
    shared = Path(root, source).resolve() if root and bare and _holds_anything(Path(root, source)) else None
    if source in LICENCES:
        return source, shared, LICENCES[source]
    folder = Path(source).resolve()
    if source and _holds_anything(folder):
        return folder.name, folder, UNKNOWN_LICENCE
    if shared is not None:
        return source, shared, UNKNOWN_LICENCE
    if source and folder.is_dir():
        raise InvalidDataset(f"the folder {source!r} is empty; it must contain class folders, or {' and '.join(FILES)}")
    raise InvalidDataset(f"{source!r} is neither a folder nor one of the known data sets: {', '.join(LICENCES)}")


def _holds_anything(folder: Path) -> bool:
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


def _read(name: str, folder: Path | None) -> Read:
    if folder is not None:
        return read_tiny_imagenet(folder) if holds_tiny_imagenet(folder) else _read_arrays(name, folder)
    if name == "tinyimagenet":
        raise InvalidDataset(MISSING)
    return _read_digits() if name == "digits" else _read_torchvision(name)


def _read_arrays(name: str, folder: Path) -> Read:
    parts = [read_arrays(folder / file) for file in FILES]
    classes = parts[0][0]
    if parts[1][0] != classes:
        raise InvalidDataset(f"{name}: {' and '.join(FILES)} must have the same classes in the same order")
    train, test = (_split(images, labels, file) for file, (_, images, labels) in zip(FILES, parts, strict=True))
    return classes, train, test


def _split(images: np.ndarray, labels: np.ndarray, name: str) -> Split:
    """The split of images [N, H, W] or [N, H, W, C], uint8. Raises InvalidDataset for other arrays."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise InvalidDataset(f"{name}: images must be uint8 [N, H, W, 1 or 3], not {images.dtype} {list(images.shape)}")
    if labels.ndim != 1 or len(labels) != len(images) or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidDataset(f"{name}: labels must be {len(images)} integers, not {labels.dtype} {list(labels.shape)}")
    return Split(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), torch.from_numpy(labels.astype(np.int64))
    )


def _read_digits() -> Read:
    """scikit-learn's 1,797 grey digits of 8x8 pixels; a fifth of each class is the test set."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  (the extra `trainer`)

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    train, test = hold_out(_split(images, digits.target, "digits"), TEST_SHARE, seed=0)
    return tuple("0123456789"), train, test


def _read_torchvision(source: str) -> Read:
    from torchvision import datasets  # noqa: PLC0415  (the extra `trainer`)

    root = kept_in("RECALL_DATA")
    make = getattr(datasets, TORCHVISION[source])
    parts = {"split": ("train", "test")} if source == "svhn" else {"train": (True, False)}
    key, values = next(iter(parts.items()))
    try:
        loaded = [make(root=root, download=True, **{key: value}) for value in values]
    except (OSError, RuntimeError) as error:
        raise InvalidDataset(f"{source} could not be downloaded to {root}: {error}") from error
    splits = []
    for part in loaded:
        images = np.asarray(part.data)
        if source == "svhn":
            images = images.transpose(0, 2, 3, 1)
        splits.append(_split(images, np.asarray(part.labels if source == "svhn" else part.targets), source))
    classes = tuple(getattr(loaded[0], "classes", None) or "0123456789")
    return classes, splits[0], splits[1]


def _digest(classes: tuple[str, ...], train: Split, test: Split) -> str:
    """sha256 of shapes and class names, then of images and labels in the order in which they were read."""
    header = {"classes": classes, "train": list(train.images.shape), "test": list(test.images.shape)}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for split in (train, test):
        digest.update(split.images.numpy().data)
        digest.update(split.labels.numpy().astype("<i8").data)
    return digest.hexdigest()
