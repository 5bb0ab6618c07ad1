"""Adds classes to a bundle from pictures, without the data that the bundle was made from.

A memory of features takes them up as `features/added_classes.py` says. In pixels, the bases stay. If the budget has
room, further bases are added: leading directions of the new pictures beyond the span of the old bases. The coefficients
of old classes are zero along these, so what they recall does not change.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.describe import describe, made_now
from recall_server.core.bundle.manifest import Manifest
from recall_server.core.io.labels import check_label, composed
from recall_server.core.memory import AddressedBases, DescribedClasses
from recall_server.core.preprocessing import AbstractPreprocessing, Projected, Standardise, unprojected
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import UNKNOWN_LICENCE
from trainer.data.enlargement import Enlargement
from trainer.data.folders.image_folder import read_training_pictures
from trainer.data.second_moments import LARGEST
from trainer.data.splits import Split
from trainer.starts.eigenvectors import leading_eigenvectors, project, representatives
from trainer.starts.features.added_classes import Larger, with_classes
from trainer.starts.private.class_statistics import without_promise

MOST_PICTURES, MOST_BYTES = 6_000, 2**28  # most pictures of a class, and their bytes
LONGEST_PHRASE = 1000  # most characters of a text in a manifest

Featurise = Callable[[Tensor], Tensor]  # pictures uint8 [N, C, H, W] -> features [N, D, 1, 1]


@dataclass(frozen=True)
class NewClass:
    """A class to be added: its name and pictures, uint8 [N, C, H, W]. `unreadable` lists files that were left out."""

    name: str
    images: Tensor
    unreadable: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path, bundle: MemoryBundle, name: str | None = None) -> NewClass:
        """Read the pictures of a folder as the server does, without the fifth that is kept for testing the class.

        Raises InvalidDataset if no picture can be read.
        """
        shape = bundle.manifest.image.shape
        most = max(1, min(MOST_PICTURES, MOST_BYTES // math.prod(shape)))
        images, unreadable = read_training_pictures(folder, shape, most)
        return cls(composed(name or folder.name), torch.from_numpy(images), unreadable)


def add_classes(
    bundle: MemoryBundle,
    added: Sequence[NewClass],
    *,
    further_bases: int = 0,
    seed: int = 0,
    name: str | None = None,
    featurise: Featurise = lambda images: images,
) -> MemoryBundle:
    """The bundle with these classes after its own, not written yet and without the accuracies of the old bundle.

    `further_bases` is the number of bases to add; a memory of features has one for each class if it is 0. `featurise`
    gives the features [n, D, 1, 1] of pictures; only memories of features need it. Raises ValueError for a memory that
    takes up no classes (`check_addable`), for a name that exists, for more numbers than the bundle's budget allows for
    that many classes, and if further bases are asked for but images are too large for second moments or bases are not
    at half resolution.
    """
    check_addable(bundle, [each.name for each in added])
    if isinstance(bundle.memory, DescribedClasses):
        found = _with_described(bundle, bundle.memory, added, featurise, further_bases=further_bases, seed=seed)
        of = found.memory, bundle.preprocessing, (*bundle.labels, *(each.name for each in added))
        manifest = _manifest(bundle, of, added, name, found.retraining)
        return MemoryBundle(manifest, found.memory, bundle.preprocessing, bundle.storage)
    memory, space = bundle.memory, unprojected(bundle.preprocessing)
    assert isinstance(memory, AddressedBases), "check_addable has seen to that"
    size = bundle.manifest.budget.images_per_class
    labels = (*bundle.labels, *(each.name for each in added))
    splits = [Split(each.images, torch.zeros(len(each.images), dtype=torch.int64)) for each in added]
    if further_bases:
        memory = _extended(memory, splits, space, further_bases)
    points = [project(memory, split, space) for split in splits]
    rows = torch.stack([representatives(each, memory.rows, seed) for each in points], dim=1)
    addressing = torch.cat([memory.addressing, rows], dim=1)
    targets = memory.targets.extended(range(memory.query_size), len(labels))
    larger = replace(memory, addressing=addressing, targets=targets)
    allowed = int(size * len(labels) * math.prod(larger.item_shape))
    numbers = larger.stored_numbers()
    if numbers > allowed:
        raise ValueError(
            f"{numbers} numbers are more than the {allowed} of {size:g} images per class for "
            f"{len(labels)} classes; add fewer bases than {further_bases}"
        )
    if isinstance(bundle.preprocessing, Projected):
        space = Projected.onto(larger.span(), bundle.preprocessing.standard, bundle.preprocessing.rest)
    manifest = _manifest(bundle, (larger, space, labels), added, name)
    return MemoryBundle(manifest, larger, space, bundle.storage)


def _with_described(
    bundle: MemoryBundle,
    memory: DescribedClasses,
    added: Sequence[NewClass],
    featurise: Featurise,
    *,
    further_bases: int,
    seed: int,
) -> Larger:
    space = bundle.preprocessing
    assert isinstance(space, Standardise), "check_addable has seen to that"
    return with_classes(
        memory,
        bundle.manifest.retraining,
        space,
        [space.to_model(featurise(each.images).float()).flatten(1) for each in added],
        further_bases=further_bases or len(added),
        generator=torch.Generator().manual_seed(seed),
    )


def check_addable(bundle: MemoryBundle, names: Sequence[str]) -> None:
    """Raise ValueError if classes of these names cannot be added to the bundle; no picture is needed to tell."""
    name, based = f"the bundle {bundle.manifest.name}", isinstance(bundle.memory, AddressedBases)
    pixels = bundle.manifest.space == "pixels" and based and bundle.manifest.queries == "labels"
    if not pixels and not _describes(bundle):
        raise ValueError(
            f"{name} takes up no further classes: only a memory of bases addressed by labels does, or one of features "
            "that describes its classes"
        )
    known = set(bundle.labels)
    for each in map(check_label, names):
        if each in known:
            raise ValueError(f"{name} knows {each!r} already; give the folder another --name")
        known.add(each)


def _describes(bundle: MemoryBundle) -> bool:
    """Whether it holds a head, which one step of training gives, and what its classes look like."""
    one_step = bundle.manifest.retraining.steps == 1
    return isinstance(bundle.memory, DescribedClasses) and isinstance(bundle.preprocessing, Standardise) and one_step


def _extended(
    memory: AddressedBases, splits: Sequence[Split], space: AbstractPreprocessing, count: int
) -> AddressedBases:
    """The memory with `count` more bases: leading directions of what its own bases do not recall of these pictures."""
    channels, height, width = memory.image_shape
    half = Enlargement.from_half(height, width)
    _check_extensible(memory, half)
    own = half.coordinates(memory.span())  # [K, p]
    span, _ = torch.linalg.qr(own.T)
    product = torch.zeros(own.shape[1], own.shape[1], dtype=torch.float64)
    for split in splits:
        for chunk in split.chunks():
            coordinates = half.coordinates(space.to_model(chunk.pixels()))
            missed = coordinates - (coordinates @ span) @ span.T
            product += (missed.T @ missed) / len(split)
    directions = leading_eigenvectors(product, count)
    scale = own.norm(dim=1).mean()  # the scale of the old ones, so that one outer rate suits all
    bases = torch.cat([memory.bases, half.stored(directions, channels) * scale])
    zeros = torch.zeros(memory.rows, memory.query_size, count)
    return replace(memory, bases=bases, addressing=torch.cat([memory.addressing, zeros], dim=2))


def _check_extensible(memory: AddressedBases, half: Enlargement) -> None:
    """Raise ValueError for bases to which no further ones can be computed, before anything large is allocated."""
    channels, *size = memory.bases.shape[1:]
    numbers = channels * half.numbers
    if tuple(size) != half.stored_size:
        raise ValueError(
            f"the bases are stored at {size[0]}x{size[1]}, and further ones can only be found where they are at half "
            f"resolution, {half.stored_size[0]}x{half.stored_size[1]}; leave out --further-bases"
        )
    if numbers > LARGEST:  # the residuals' second moments are [numbers, numbers] in float64
        raise ValueError(
            f"a half-resolution image has {numbers} numbers, more than the {LARGEST} that further bases can be found "
            "for; leave out --further-bases"
        )


def _manifest(
    bundle: MemoryBundle,
    larger: tuple[AddressedBases | DescribedClasses, AbstractPreprocessing, Sequence[str]],
    added: Sequence[NewClass],
    name: str | None,
    retraining: Retraining | None = None,
) -> Manifest:
    """The manifest of `bundle`, updated for the `larger` memory, its preprocessing and its labels."""
    memory, space, labels = larger
    before, names = bundle.manifest, ", ".join(each.name for each in added)
    digest = hashlib.sha256(before.provenance.dataset_sha256.encode())
    for each in added:
        digest.update(each.name.encode())
        digest.update(each.images.numpy().data)
    licence = f"{before.provenance.dataset_licence}; of what was added: {UNKNOWN_LICENCE}"
    size = "bases" if isinstance(memory, DescribedClasses) else "memory.bases"
    parameters = {size: len(memory.bases), "added": names[:LONGEST_PHRASE], "added_to_sha256": bundle.sha256}
    made = before.provenance.model_dump(exclude={"code_version", "date"}) | {
        "dataset": f"{before.provenance.dataset} and {names}"[:LONGEST_PHRASE],
        "dataset_sha256": digest.hexdigest(),
        "dataset_licence": licence[:LONGEST_PHRASE],
        "hyper_parameters": without_promise(before.provenance.hyper_parameters) | parameters,
    }
    return describe(
        name or before.name,
        memory,
        space,
        labels=labels,
        groups=before.groups,
        retraining=retraining or before.retraining,
        space=before.space,
        feature_encoder=before.feature_encoder,
        image=before.image,
        images_per_class=before.budget.images_per_class,
        dataset_bytes=before.budget.dataset_bytes + sum(each.images.numel() for each in added),
        provenance=made_now(**made),
    )
