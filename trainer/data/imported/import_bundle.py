"""Makes a bundle of images and labels that another tool distilled or selected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.describe import describe, made_now
from recall_server.core.memory import StoredItems
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.device import device_name
from recall_server.core.training.retraining import Retraining
from recall_server.errors import InvalidDataset
from trainer.data.datasets import UNKNOWN_LICENCE, ImageDataset
from trainer.data.imported.files import LabelledImages
from trainer.data.imported.grouping import Grouped

METHOD = "import"


@dataclass(frozen=True)
class ImportRequest:
    """What to make a bundle of. `dataset` has the real pictures that the images stand for, if available.

    `normalisation` is that of the images in their file; None if they are in pixel space, 0..1.
    """

    source: LabelledImages
    grouped: Grouped
    retraining: Retraining
    output: Path
    dataset: ImageDataset | None = None
    normalisation: Standardise | None = None


def import_bundle(request: ImportRequest) -> MemoryBundle:
    """Write the bundle. Raises InvalidDataset, in one sentence, for images that do not match their description."""
    items = request.grouped.items
    _check(request)
    preprocessing = request.normalisation or _fitted(request)
    if request.normalisation is None:
        items = preprocessing.to_model(items.flatten(0, 1)).reshape(items.shape)
    memory = StoredItems(items, targets=request.grouped.targets)
    data, source = request.dataset, request.source
    manifest = describe(
        request.output.stem,
        memory,
        preprocessing,
        labels=request.grouped.classes,
        groups={} if data is None else data.groups,
        retraining=request.retraining,
        images_per_class=memory.stored_numbers() / (len(items) * math.prod(items.shape[2:])),
        dataset_bytes=items.numel() if data is None else data.training_bytes,
        provenance=made_now(
            dataset=source.name if data is None else data.name,
            dataset_sha256=source.sha256 if data is None else data.digest,
            dataset_licence=UNKNOWN_LICENCE if data is None else data.licence,
            method=METHOD,
            hyper_parameters={"source": source.name, "source_sha256": source.sha256},
            seed=0,
            outer_steps=0,
            seconds=0.0,
            device=device_name(torch.device("cpu")),
        ),
    )
    return MemoryBundle(manifest, memory, preprocessing).save(request.output)


def _fitted(request: ImportRequest) -> Standardise:
    """The preprocessing, fitted to the real pictures, or to the images if there are none."""
    if request.dataset is not None:
        return Standardise.fit(request.dataset.train.images)
    return Standardise.fit(request.grouped.items.flatten(0, 1))


def _check(request: ImportRequest) -> None:
    items, data, name = request.grouped.items, request.dataset, request.source.name
    if data is not None and tuple(items.shape[2:]) != data.image_shape:
        raise InvalidDataset(
            f"{name} has images of {list(items.shape[2:])}, but {data.name} has {list(data.image_shape)} "
            "(channels, height, width)"
        )
    if data is not None and request.grouped.classes != data.classes:
        raise InvalidDataset(
            f"{name} has the classes {', '.join(request.grouped.classes[:5])}, but {data.name} has "
            f"{', '.join(data.classes[:5])}; the order must be the same"
        )
    normalisation = request.normalisation
    if normalisation is not None and not normalisation.fits((items.shape[2], items.shape[3], items.shape[4])):
        raise InvalidDataset(
            f"--mean and --deviation need one number per channel ({items.shape[2]}), not {len(normalisation.mean)}"
        )
    low, high = float(items.min()), float(items.max())
    if normalisation is None and not (low >= 0 and high <= 1):
        raise InvalidDataset(
            f"{name} has numbers from {low:.2g} to {high:.2g}, so its images are normalised; say how with --mean and "
            "--deviation"
        )
