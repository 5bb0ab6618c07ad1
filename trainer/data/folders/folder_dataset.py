"""Reads a folder of class folders as training, validation and test pictures, in one pass over the files.

The content of a file decides whether its picture is for training, validation or testing. A folder that grows, or whose
files are renamed, therefore keeps its test pictures: none of them was a training picture before. `draw_roles` names the
exception, classes of a few pictures. If the pictures exceed the memory limit, a sample of each split is kept, but
the digest and the observer still see every picture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recall_server.errors import InvalidDataset
from trainer.data.features import Featuriser
from trainer.data.folders.image_folder import ImageFolder, decode_file, survey
from trainer.data.splits import (
    TEST,
    TEST_SHARE,
    TRAIN,
    VALIDATION,
    VALIDATION_SHARE,
    ImageDataset,
    Split,
    check_labels,
    chunk_length,
    draw_roles,
    held_out,
)

LARGEST_SIZE = 256  # pixels, unless another size is requested
TESTED, VALIDATED = "test", ("val", "validation")  # folders beside `train`
SHARES = {TRAIN: 0.7, VALIDATION: 0.1, TEST: 0.2}  # of the memory limit, if the pictures exceed it

Observe = Callable[[Split], None]  # called with all training pictures, in chunks


def read_folder(
    name: str,
    folder: Path,
    licence: str,
    *,
    image_size: int | None,
    seed: int,
    most_bytes: int | None = None,
    observe: Observe = lambda split: None,
    featuriser: Featuriser | None = None,
) -> ImageDataset:
    """Read a folder of class folders, or of the folders `train`, `test` and `val` (or `validation`) of these.

    Without `test`, `val` is the test set if it is there, else a fifth of the pictures are. Without a `val` of its own,
    validation has a tenth of the other pictures.
    Pictures become square, with the size of the first picture's shorter side (at most 256) unless `image_size` is
    given. They become grey if all of them are grey, else colour. At most `most_bytes` of pictures are kept in memory.
    With a `featuriser` they have the size and the channels of its encoder, and only their features are kept.
    Unreadable files are skipped and listed. Raises InvalidDataset for a folder that cannot be distilled.
    """
    if image_size is not None and image_size < 1:
        raise InvalidDataset(f"an image size must be 1 or more, not {image_size}")
    listing = _list(name, folder)
    shape = listing.image_shape(image_size) if featuriser is None else featuriser.encoder.image_shape
    empty = torch.empty(0, *shape, dtype=torch.uint8)
    if featuriser is not None:
        featuriser.expected, empty = len(listing.labels), featuriser(empty)
    keep = _sample(listing, empty.shape[1:].numel() * empty.element_size(), most_bytes, seed)
    kept = [_Kept.of(int((keep & (listing.roles == role)).sum()), empty) for role in (TRAIN, VALIDATION, TEST)]
    counts, unreadable = [0, 0, 0], [sentence for part in listing.parts for sentence in part.skipped]
    digest = hashlib.sha256(json.dumps({"classes": listing.classes, "image": shape}, sort_keys=True).encode())
    for index, images in _chunks(listing, shape, unreadable):
        roles, labels = listing.roles[index], listing.labels[index]
        for role, label, image in zip(roles.tolist(), labels.tolist(), images.numpy(), strict=True):
            digest.update(b"%d %d " % (role == TEST, label))
            digest.update(image.data)
        images = images if featuriser is None else featuriser(images)
        observe(Split(images, labels).select(roles == TRAIN))
        for role in (TRAIN, VALIDATION, TEST):
            counts[role] += int((roles == role).sum())
            kept[role].add(images, labels, (roles == role) & keep[index])
    train, validation, test = (each.split() for each in kept)
    check_labels(name, "training", torch.cat([train.labels, validation.labels]), listing.classes)
    check_labels(name, "test", test.labels, listing.classes)
    pictures = counts[TRAIN] + counts[VALIDATION]
    identity = digest.hexdigest() if featuriser is None else featuriser.digest(digest.hexdigest())
    return ImageDataset(name, listing.classes, train, validation, test, identity, licence, tuple(unreadable), pictures)


@dataclass
class _Kept:
    """A preallocated buffer for the pictures of a split: concatenating parts would need twice the memory."""

    images: Tensor  # [most, C, H, W]
    labels: Tensor
    count: int = 0

    @classmethod
    def of(cls, most: int, empty: Tensor) -> _Kept:
        """For as many as `most` of the shape and type of `empty` [0, C, H, W]."""
        return cls(empty.new_empty(most, *empty.shape[1:]), torch.empty(most, dtype=torch.int64))

    def add(self, images: Tensor, labels: Tensor, chosen: Tensor) -> None:
        """Append those of the images [n, C, H, W] for which `chosen`, bool [n], is true."""
        end = self.count + int(chosen.sum())
        self.images[self.count : end] = images[chosen]
        self.labels[self.count : end] = labels[chosen]
        self.count = end

    def split(self) -> Split:
        """The pictures added; fewer than the capacity if files were unreadable."""
        return Split(self.images[: self.count], self.labels[: self.count])


@dataclass(frozen=True)
class _Listing:
    """All files in order, with the label [N] and the role [N] (TRAIN, VALIDATION or TEST) of each."""

    parts: tuple[ImageFolder, ...]
    labels: Tensor
    roles: Tensor

    @property
    def classes(self) -> tuple[str, ...]:
        return self.parts[0].classes

    def image_shape(self, size: int | None) -> tuple[int, int, int]:
        """(channels, height, width) of square pictures of this size, or of the usual one."""
        side = size or min(self.parts[0].shorter_side, LARGEST_SIZE)
        return (1 if all(part.grey for part in self.parts) else 3), side, side


def _list(name: str, folder: Path) -> _Listing:
    if not (folder / "train").is_dir() or not any((folder / part).is_dir() for part in (TESTED, *VALIDATED)):
        whole = survey(folder)
        return _listing((whole,), [_drawn(whole, TEST_SHARE, VALIDATION_SHARE * (1 - TEST_SHARE))])
    train = survey(folder / "train")
    others = [survey(folder / part) for part in (TESTED, *VALIDATED) if (folder / part).is_dir()]
    for part in others:
        if part.classes != train.classes:
            raise InvalidDataset(f"{name}: train and {part.folder.name} must have the same class folders")
    if len(others) == 1:
        return _listing((train, *others), [_drawn(train, 0, VALIDATION_SHARE), _all(others[0], TEST)])
    if len(others) > 2:
        raise InvalidDataset(f"{name} has more than one folder of validation pictures: {' and '.join(VALIDATED)}")
    test, validation = others
    return _listing((train, test, validation), [_all(train, TRAIN), _all(test, TEST), _all(validation, VALIDATION)])


def _listing(parts: tuple[ImageFolder, ...], roles: list[Tensor]) -> _Listing:
    return _Listing(parts, torch.cat([torch.from_numpy(part.labels) for part in parts]), torch.cat(roles))


def _drawn(part: ImageFolder, test: float, validation: float) -> Tensor:
    return draw_roles(torch.from_numpy(part.labels), torch.from_numpy(part.places), test=test, validation=validation)


def _all(part: ImageFolder, role: int) -> Tensor:
    return torch.full((len(part.labels),), role)


def _sample(listing: _Listing, each: int, most_bytes: int | None, seed: int) -> Tensor:
    """Which files, of `each` bytes, to keep in memory, bool [N]: all, or the same share of every class of a split."""
    keep = torch.ones(len(listing.labels), dtype=torch.bool)
    if most_bytes is None or len(keep) * each <= most_bytes:
        return keep
    for role, share in SHARES.items():
        members = torch.nonzero(listing.roles == role).flatten()
        wanted = share * most_bytes / (each * max(1, len(members)))
        if wanted < 1:
            keep[members[~held_out(listing.labels[members], wanted, seed)]] = False
    return keep


def _chunks(listing: _Listing, shape: tuple[int, int, int], unreadable: list[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (positions in the listing [n], images [n, C, H, W]) of the readable files, in the listing's order."""
    longest = chunk_length(shape[0] * shape[1] * shape[2])
    index: list[int] = []
    images: list[NDArray[np.uint8]] = []
    files = ((path, part.unreadable.get(own)) for part in listing.parts for own, path in enumerate(part.files()))
    for position, (path, reason) in enumerate(files):
        try:
            if reason is not None:
                raise InvalidDataset(reason)
            images.append(decode_file(path, shape))
            index.append(position)
        except InvalidDataset as error:
            unreadable.append(str(error))
        if len(images) == longest:
            yield torch.tensor(index), torch.from_numpy(np.stack(images))
            index, images = [], []
    if images:
        yield torch.tensor(index), torch.from_numpy(np.stack(images))
