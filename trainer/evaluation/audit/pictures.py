"""Members and non-members: reads them in the order of a memory's classes, and refuses what no audit can be made of."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.errors import InvalidDataset
from trainer.data.datasets import load_dataset
from trainer.data.features import Featuriser
from trainer.data.splits import Split
from trainer.evaluation.audit.attack import check_enough

SPLITS: Final = ("train", "validation", "test")
NAMED: Final = 5  # unknown classes that a sentence lists
SAME: Final = 2e-3  # relative distance of two encodings of one picture, in half precision
OF_A_CLASS: Final = 4  # pictures, so that each half of them has two


class AuditPictures(NamedTuple):
    """Those that a memory is said to be made from, and others, with labels in the order of the memory's."""

    members: Split
    others: Split

    @property
    def pool(self) -> Split:
        """All of them, members first."""
        return Split(*(torch.cat(both) for both in zip(_parts(self.members), _parts(self.others), strict=True)))


def _parts(split: Split) -> tuple[Tensor, Tensor]:
    return split.images, split.labels


def read_pictures(source: str, bundle: MemoryBundle, featuriser: Featuriser | None) -> Split:
    """The pictures of a folder or a known data set, or of one of its splits (NAME:train), for this memory.

    Splits are those of the seed that the memory was made with. Raises InvalidDataset for classes that the memory does
    not know, and for pictures of another shape.
    """
    name, _, part = source.rpartition(":") if source.rpartition(":")[2] in SPLITS else (source, "", "")
    image, seed = bundle.manifest.image, bundle.manifest.provenance.seed
    folder_size = image.height if featuriser is None and image.height == image.width else None
    data = load_dataset(name, usual_size=folder_size, seed=seed, featuriser=featuriser)
    unknown = [label for label in data.classes if label not in bundle.labels]
    if unknown:
        raise InvalidDataset(
            f"{data.name} has the classes {', '.join(unknown[:NAMED])}, which {bundle.manifest.name} does not know; it "
            f"knows {', '.join(bundle.labels[:NAMED])}{', ...' if len(bundle.labels) > NAMED else ''}"
        )
    if data.image_shape != bundle.manifest.network_shape:
        raise InvalidDataset(
            f"{data.name} has pictures of {list(data.image_shape)}, and {bundle.manifest.name} is of "
            f"{list(bundle.manifest.network_shape)} (channels, height, width)"
        )
    splits = [_parts(getattr(data, each)) for each in SPLITS if part in ("", each)]
    images, labels = (torch.cat(both) for both in zip(*splits, strict=True))
    return Split(images, torch.tensor([bundle.labels.index(label) for label in data.classes])[labels])


def check_pictures(pictures: AuditPictures, bundle: MemoryBundle, *, halved: bool) -> None:
    """Raise InvalidDataset or ValueError for pictures that overlap or are too few; `halved` if shadows share them."""
    check_enough(len(pictures.members), len(pictures.others))
    twins = overlap(pictures.members, pictures.others)
    if twins:
        raise InvalidDataset(
            f"{twins} picture{'s are' if twins > 1 else ' is'} among the members and among the non-members; an attack "
            "is measured on pictures of which each is one or the other"
        )
    counts = torch.bincount(pictures.pool.labels, minlength=len(bundle.labels))
    poor = [label for label, count in zip(bundle.labels, counts.tolist(), strict=True) if count < OF_A_CLASS]
    if halved and poor:
        raise InvalidDataset(
            f"shadow memories take {OF_A_CLASS} or more pictures of every class; there are fewer of "
            f"{', '.join(poor[:NAMED])}; --shadows 0 does without them"
        )


def overlap(members: Split, others: Split) -> int:
    """How many of the others are members too: by the digests of pictures, or by features that agree up to rounding."""
    if members.images.is_floating_point():
        known = members.images.flatten(1).float()
        twins = 0
        for part in others.chunks(512):
            features = part.images.flatten(1).float()
            nearest = known[torch.cdist(features, known).argmin(dim=1)]
            twins += int(((features - nearest).norm(dim=1) <= SAME * features.norm(dim=1)).sum())
        return twins
    digests = {_digest(image) for image in members.images}
    return sum(_digest(image) in digests for image in others.images)


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().numpy().data).digest()
