"""Names, folders and arrays -> train, validation and test pictures, never mixed.

A source is the name of a torchvision data set, scikit-learn's `digits`, a folder of class folders, or a folder with
`train.npz` and `test.npz` (`images` uint8 [N, H, W, C] or [N, H, W], `labels` int [N], `classes` str). A name is first
looked for as a folder of that name in $RECALL_DATA.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recall_server.errors import InvalidDataset
from trainer.image_folder import read_image_folder

VALIDATION_SHARE = 0.1
LICENCES = {
    "digits": "UCI Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak), CC BY 4.0",
    "mnist": "MNIST (Y. LeCun, C. Cortes), CC BY-SA 3.0",
    "fashion-mnist": "Fashion-MNIST (Zalando SE), MIT",
    "cifar10": "CIFAR-10 (A. Krizhevsky), free for research with citation",
    "cifar100": "CIFAR-100 (A. Krizhevsky), free for research with citation",
    "svhn": "SVHN (Y. Netzer et al.), non-commercial use only",
}
TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
}


@dataclass(frozen=True)
class Split:
    """`images` uint8 [N, C, H, W], original values, and `labels` int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self) -> Tensor:
        """The images in pixel space: float32, 0 to 1."""
        return self.images.float() / 255

    def select(self, index: Tensor) -> Split:
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True)
class ImageDataset:
    """Three disjoint splits of one data set; `digest` is the sha256 of all its pictures and labels."""

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    digest: str
    licence: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.train.images.shape[1], self.train.images.shape[2], self.train.images.shape[3]

    @property
    def image_numbers(self) -> int:
        return self.train.images[0].numel()

    @property
    def training_bytes(self) -> int:
        """Bytes of the pictures that the memory replaces: train and validation, one byte a number."""
        return self.train.images.numel() + self.validation.images.numel()


def load_dataset(source: str, *, image_size: int | None = None, seed: int = 0) -> ImageDataset:
    """Read a data set and split a tenth of its training pictures, class by class, off for validation.

    `image_size` is for folders of pictures, which may be of any size. Raises InvalidDataset, with what would be right.
    """
    name, read = _reader(source, image_size)
    classes, train, test = read()
    for split, part in (("training", train), ("test", test)):
        _check(name, split, part, classes)
    train, validation = _hold_out(train, VALIDATION_SHARE, seed)
    digest = _digest(train, validation, test)
    return ImageDataset(name, classes, train, validation, test, digest, LICENCES.get(name, "unknown: the owner's own"))


Read = tuple[tuple[str, ...], Split, Split]


def _reader(source: str, image_size: int | None) -> tuple[str, Callable[[], Read]]:
    folder = Path(source)
    shared = Path(os.environ.get("RECALL_DATA", "")) / source
    if not folder.is_dir() and os.environ.get("RECALL_DATA") and shared.is_dir():
        folder = shared
    if (folder / "train.npz").is_file():
        return folder.resolve().name, lambda: _read_arrays(folder)
    if folder.is_dir():
        return folder.resolve().name, lambda: _read_folder(folder, image_size)
    if source == "digits":
        return source, _read_digits
    if source in TORCHVISION:
        return source, lambda: _read_torchvision(source)
    known = ", ".join(["digits", *TORCHVISION])
    raise InvalidDataset(f"{source!r} is neither a folder nor one of the known data sets: {known}")


def _read_arrays(folder: Path) -> Read:
    parts: list[Split] = []
    classes: tuple[str, ...] = ()
    for split in ("train", "test"):
        path = folder / f"{split}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                images, labels = arrays["images"], arrays["labels"]
                classes = tuple(str(name) for name in arrays["classes"])
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise InvalidDataset(f"{path.name} must hold the arrays images, labels and classes: {error}") from error
        parts.append(_split(images, labels, path.name))
    return classes, parts[0], parts[1]


def _split(images: np.ndarray, labels: np.ndarray, name: str) -> Split:
    """[N, H, W] or [N, H, W, C] uint8 -> Split, or InvalidDataset."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3):
        raise InvalidDataset(f"{name}: images must be uint8 [N, H, W, 1 or 3], not {images.dtype} {list(images.shape)}")
    if labels.ndim != 1 or len(labels) != len(images) or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidDataset(f"{name}: labels must be {len(images)} integers, not {labels.dtype} {list(labels.shape)}")
    return Split(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), torch.from_numpy(labels.astype(np.int64))
    )


def _read_folder(folder: Path, image_size: int | None) -> Read:
    """A folder of class folders; `train` and `test` sub-folders are kept as they are, else a fifth is the test."""
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train_classes, train_images, train_labels = read_image_folder(folder / "train", image_size)
        size = train_images.shape[1]
        classes, test_images, test_labels = read_image_folder(folder / "test", size)
        if classes != train_classes:
            raise InvalidDataset(f"{folder.name}: train and test must hold the same class folders")
        return (
            classes,
            _split(train_images, train_labels, folder.name),
            _split(test_images, test_labels, folder.name),
        )
    classes, images, labels = read_image_folder(folder, image_size)
    train, test = _hold_out(_split(images, labels, folder.name), 0.2, seed=0)
    return classes, train, test


def _read_digits() -> Read:
    """scikit-learn's 1,797 grey digits of 8x8; a fifth, drawn class by class, is the test set."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  (the extra `trainer`)

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    train, test = _hold_out(_split(images, digits.target, "digits"), 0.2, seed=0)
    return tuple("0123456789"), train, test


def _read_torchvision(source: str) -> Read:
    from torchvision import datasets  # noqa: PLC0415  (the extra `trainer`)

    root = Path(os.environ.get("RECALL_DATA") or Path.home() / ".cache" / "memory-recall")
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


def _check(name: str, split: str, part: Split, classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        raise InvalidDataset(f"{name} has {len(classes)} class; a classifier needs two or more")
    if len(set(classes)) != len(classes):
        raise InvalidDataset(f"{name}: two classes have the same name")
    if len(part) and (part.labels.min() < 0 or part.labels.max() >= len(classes)):
        raise InvalidDataset(f"{name}: {split} labels must lie between 0 and {len(classes) - 1}")
    counts = torch.bincount(part.labels, minlength=len(classes))
    least = 3 if split == "training" else 1
    poor = [classes[i] for i in torch.nonzero(counts < least).flatten()]
    if poor:
        raise InvalidDataset(
            f"{name}: fewer than {least} {split} picture{'s' if least > 1 else ''} of {', '.join(poor[:5])}"
        )


def _hold_out(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Keep the rest and hold out a share (at least one picture) of every class, drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(split), dtype=torch.bool)
    for label in torch.unique(split.labels):
        members = torch.nonzero(split.labels == label).flatten()
        count = max(1, round(share * len(members)))
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return split.select(~held), split.select(held)


def _digest(*splits: Split) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.numpy().tobytes())
        digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()


def subset(dataset: ImageDataset, *, train: int) -> ImageDataset:
    """The same data set with only the first `train` training pictures: for quick tests and probes."""
    return replace(dataset, train=Split(dataset.train.images[:train], dataset.train.labels[:train]))
