"""The start of a memory from a bundle: known classes keep what they recall, new classes get their own coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import AbstractMemory, AddressedBases
from recall_server.core.preprocessing import unprojected
from trainer.data.splits import Split
from trainer.starts.eigenvectors import PICTURES_FOR_CENTRES, project, representatives


def check_continuable(
    bundle: MemoryBundle,
    classes: Sequence[str],
    image_shape: tuple[int, int, int],
    preprocessing: str,
    queries: str = "labels",
) -> None:
    """Raise ValueError, in one sentence, if pictures of these classes and shape cannot continue the bundle.

    The classes of the bundle must keep their order; new classes may stand anywhere between them.
    """
    manifest = bundle.manifest
    name = f"the bundle {manifest.name}"
    if manifest.queries != queries:
        method = "image-addressing-warm" if manifest.retraining.initial == "encoder" else "image-addressing"
        how = f"--method {method}" if manifest.queries == "images" else "a method that has queries=labels"
        raise ValueError(f"{name} is addressed by {manifest.queries}, not by {queries}; go on from it with {how}")
    if manifest.image.shape != image_shape:
        raise ValueError(
            f"{name} recalls images of {list(manifest.image.shape)}, but the data set has {list(image_shape)} "
            "(channels, height, width)"
        )
    if unprojected(bundle.preprocessing).kind != preprocessing:
        raise ValueError(
            f"{name} has the preprocessing {manifest.preprocessing!r}, not {preprocessing!r}; "
            f"use --set preprocessing={manifest.preprocessing}"
        )
    missing = [label for label in manifest.labels if label not in classes]
    if missing:
        raise ValueError(f"the data set lacks {', '.join(map(repr, missing[:5]))}, which {name} remembers")
    order = tuple(label for label in classes if label in manifest.labels)
    if order != manifest.labels:
        raise ValueError(
            f"{name} has its labels in the order {', '.join(manifest.labels[:12])}; the data set has them in the order "
            f"{', '.join(order[:12])}"
        )
    if len(classes) > len(manifest.labels) and not isinstance(bundle.memory, AddressedBases):
        raise ValueError(f"{name} stores pixels, and only a memory of bases can take up further classes")


def resume_from_bundle(
    bundle: MemoryBundle, classes: Sequence[str], split: Split, generator: torch.Generator
) -> AbstractMemory:
    """The bundle's memory for `classes`. The coefficients of known classes are the same bits.

    The labels of `split` are numbered in the order of `classes`, and only pictures of new classes are used. A new class
    gets the coefficients of its representative pictures over the bases, which do not change.
    """
    memory = bundle.memory
    if tuple(classes) == bundle.labels or not isinstance(memory, AddressedBases):
        return memory
    addressing = torch.zeros(memory.rows, len(classes), len(memory.bases))
    seed = int(torch.randint(2**31, (), generator=generator))
    for position, label in enumerate(classes):
        if label in bundle.labels:
            addressing[:, position] = memory.addressing[:, bundle.labels.index(label)]
        else:
            points = project(memory, split.of_class(position, PICTURES_FOR_CENTRES), bundle.preprocessing)
            addressing[:, position] = representatives(points, memory.rows, seed)
    positions = [list(classes).index(label) for label in bundle.labels]
    return replace(memory, addressing=addressing, targets=memory.targets.extended(positions, len(classes)))
