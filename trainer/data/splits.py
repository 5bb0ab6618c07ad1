"""Disjoint training, validation and test pictures of a data set, and stratified hold-out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from recall_server.core.io.labels import check_label
from recall_server.errors import InvalidDataset

VALIDATION_SHARE = 0.1
TEST_SHARE = 0.2  # of data without a test set
TRAIN, VALIDATION, TEST = 0, 1, 2  # the roles of pictures
NAMED = 5  # files or classes that a message lists
CHUNK, CHUNK_BYTES = 1024, 2**22  # limits, in pictures and in bytes, wherever a whole data set is processed


def chunk_length(numbers: int) -> int:
    """How many pictures of `numbers` numbers to process together."""
    return max(1, min(CHUNK, CHUNK_BYTES // max(1, numbers)))


@dataclass(frozen=True)
class Split:
    """Pictures with their labels: `images` uint8 [N, C, H, W] and `labels` int64 [N].

    Features of an encoder take the place of the images as float16 [N, D, 1, 1].
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self) -> Tensor:
        """The images in pixel space, float32 in 0..1; features as they are, float32."""
        return self.images.float() if self.images.is_floating_point() else self.images.float() / 255

    def select(self, index: Tensor) -> Split:
        return Split(self.images[index], self.labels[index])

    def of_class(self, label: int, most: int) -> Split:
        """The first pictures of one class, at most `most`."""
        return self.select(torch.nonzero(self.labels == label).flatten()[:most])

    def chunks(self, size: int | None = None) -> Iterator[Split]:
        """Yield the split in chunks of `size` pictures, by default a bounded number."""
        size = size or chunk_length(self.images[:1].numel())
        for start in range(0, len(self), size):
            yield Split(self.images[start : start + size], self.labels[start : start + size])


@dataclass(frozen=True)
class ImageDataset:
    """Three disjoint splits of one data set; `digest` is the sha256 of its data, independent of the seed.

    `unreadable` has a sentence for every file that was skipped. If the splits are a sample of a larger folder,
    `pictures` is the number of the folder's training and validation pictures.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    digest: str
    licence: str
    unreadable: tuple[str, ...] = ()
    pictures: int | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # named groups of classes, if it has any

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.train.images.shape[1], self.train.images.shape[2], self.train.images.shape[3]

    @property
    def image_numbers(self) -> int:
        return math.prod(self.image_shape)

    def complaints(self) -> list[str]:
        """Warnings about the files: how many were skipped, with the reasons for the first ones."""
        if not self.unreadable:
            return []
        count = len(self.unreadable)
        files = "1 file was" if count == 1 else f"{count} files were"
        named = "; ".join(self.unreadable[:NAMED])
        return [f"{files} left out: {named}{'; ...' if count > NAMED else ''}"]

    def in_order_of(self, labels: Sequence[str]) -> ImageDataset:
        """The same pictures, with the classes reordered: those in `labels` first, in that order.

        Returns itself if the order is right already, or if it lacks one of these classes.
        """
        known = [name for name in self.classes if name in labels]
        if known == list(labels) or len(known) < len(labels):
            return self
        classes = (*labels, *(name for name in self.classes if name not in labels))
        numbers = torch.tensor([classes.index(name) for name in self.classes])
        return replace(
            self.with_each_split(lambda split: replace(split, labels=numbers[split.labels])), classes=classes
        )

    def with_each_split(self, change: Callable[[Split], Split]) -> ImageDataset:
        """A copy with `change` applied to each of the three splits."""
        return replace(self, train=change(self.train), validation=change(self.validation), test=change(self.test))

    @property
    def training_bytes(self) -> int:
        """Size of the pictures that a memory replaces (training and validation), at one byte per number."""
        count = len(self.train) + len(self.validation) if self.pictures is None else self.pictures
        return count * self.image_numbers


def check_labels(name: str, split: str, labels: Tensor, classes: tuple[str, ...]) -> None:
    """Raise InvalidDataset for labels [N] on which a classifier of these classes cannot be trained or tested."""
    if len(classes) < 2:
        raise InvalidDataset(f"{name} has {len(classes)} class; a classifier needs two or more")
    if len(set(classes)) != len(classes):
        raise InvalidDataset(f"{name}: two classes have the same name")
    if len(labels) and (labels.min() < 0 or labels.max() >= len(classes)):
        raise InvalidDataset(f"{name}: {split} labels must lie between 0 and {len(classes) - 1}")
    counts = torch.bincount(labels, minlength=len(classes))
    least = 3 if split == "training" else 1
    poor = [classes[i] for i in torch.nonzero(counts < least).flatten()]
    if poor:
        raise InvalidDataset(
            f"{name}: fewer than {least} {split} picture{'s' if least > 1 else ''} of {', '.join(poor[:5])}"
        )


def check_class_names(name: str, classes: Sequence[str]) -> None:
    """Raise InvalidDataset for names that no bundle can have as labels."""
    for each in classes:
        try:
            check_label(each)
        except ValueError as error:
            raise InvalidDataset(f"{name}: {error}; give the class another name") from error


def hold_out(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """(the rest, a held-out share of every class, at least one picture), drawn by the seed."""
    held = held_out(split.labels, share, seed)
    return split.select(~held), split.select(held)


def held_out(labels: Tensor, share: float, seed: int) -> Tensor:
    """Which of the pictures with these labels [N] to hold out, bool [N]: a share of every class, at least one."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        members = torch.nonzero(labels == label).flatten()
        count = max(1, round(share * len(members)))
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return held


def draw_roles(labels: Tensor, places: Tensor, *, test: float, validation: float) -> Tensor:
    """The role of each picture, [N]: the shares `test` and `validation` of every class, and TRAIN for the rest.

    `places` [N], uniform in 0..1, decide, so a picture keeps its role when others come. Of each class at least one
    picture is held out for each share that is not 0, and at most twice that share, which leaves three of five pictures
    to train on. Where this limit applies, which takes a class of a few pictures, a training picture may become one to
    test on when the class grows.
    """
    roles = torch.full_like(labels, TRAIN)
    for label in torch.unique(labels):
        members = torch.nonzero(labels == label).flatten()
        members = members[places[members].argsort(stable=True)]
        first = 0
        for role, share, end in ((TEST, test, test), (VALIDATION, validation, test + validation)):
            if share:
                below = int((places[members[first:]] < end).sum())
                count = max(1, min(below, int(2 * share * len(members))))
                roles[members[first : first + count]] = role
                first += count
    return roles
