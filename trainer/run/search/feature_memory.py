"""A memory of features: what a few vectors per class say in the space of a pre-trained encoder, within seconds.

The test features are read once, after the bundle is written.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.describe import describe, made_now
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.bundle.manifest import EncoderReference, ImageDescription, MeasuredAccuracy
from recall_server.core.io.atomic import write_atomically
from recall_server.core.memory import AbstractMemory, AddressedBases, DescribedClasses, SparseBases
from recall_server.core.training.device import device_name
from trainer.data.splits import Split
from trainer.evaluation.evaluate import Accuracies, Runs, evaluate_labels
from trainer.run.search.feature_methods import FeatureRequest, Found, find_memory

HEADS: Final = 5  # fresh heads that the test features are read with
CITATIONS: Final = {
    "features": "Deng and Russakovsky (2022), unrolled in the features of a frozen encoder",
    "exact": "a stored linear head (compare Chen, Huang and Weng, 2024) and statistics of its classes",
    "private": "private least squares (Mehta et al., 2023) by the Gaussian mechanism (Balle and Wang, 2018)",
}

Report = Callable[[str], None]


def distill_features(request: FeatureRequest, report: Report) -> MemoryBundle:
    """Make, write and measure the memory. `report` gets a sentence for each step.

    Raises ValueError for a budget that is too small, and StorageFailed if the files cannot be written.
    """
    made, data = make_features(request, report), request.dataset
    measured = heads_accuracy(made.bundle, data.test)
    what = f"{data.name} test, {len(data.classes)}-way, {len(data.test)} pictures"
    row: MeasuredAccuracy = measured.row(network="linear", protocol="bundle", data=what)
    report(f"{100 * row.mean:.2f} % of {len(data.test)} test pictures, mean of {HEADS} heads")
    return made.bundle.with_accuracy([row]).save(request.output)


class Made(NamedTuple):
    """A memory of features that was written, and what was found on the way."""

    bundle: MemoryBundle
    found: Found


def make_features(request: FeatureRequest, report: Report) -> Made:
    """Make and write the memory, without a look at the test features. Raises the errors of `distill_features`."""
    started, data = time.monotonic(), request.dataset
    report(
        f"{data.name}: {len(data.classes)} classes, {request.encoder.query_size} features of {len(data.train)} "
        f"pictures to learn from, {len(data.validation)} to choose by, {len(data.test)} to test on"
    )
    found = find_memory(request)
    seconds = time.monotonic() - started
    report(f"{found.said} after {seconds:.1f} s: {100 * found.accuracy:.1f} % on validation pictures")
    return Made(_write(request, found, seconds), found)


def heads_accuracy(bundle: MemoryBundle, split: Split) -> Accuracies:
    """The accuracy of fresh heads on features [N, D, 1, 1]."""
    return evaluate_labels(bundle, split, Runs(bundle.manifest.retraining, range(HEADS), torch.device("cpu")))


def _size(memory: AbstractMemory) -> dict[str, int]:
    if isinstance(memory, DescribedClasses):
        return {"bases": len(memory.bases), "centres": len(memory.centres)}
    if isinstance(memory, SparseBases):
        return {"bases": len(memory.bases), "features": len(memory.positions)}
    if isinstance(memory, AddressedBases):
        return {"bases": len(memory.bases)}
    return {"vectors_per_class": memory.rows}


def _write(request: FeatureRequest, found: Found, seconds: float) -> MemoryBundle:
    """Write the encoder into its folder, then the bundle."""
    data, encoder = request.dataset, request.encoder
    file = f"{request.encoder_name}.onnx"
    path = encoder_folder(request.output) / file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != encoder.sha256:
        write_atomically(path, encoder.model)
    channels, height, width = encoder.image_shape
    manifest = describe(
        request.output.stem,
        found.memory,
        found.preprocessing,
        labels=data.classes,
        groups=data.groups,
        retraining=found.retraining,
        images_per_class=request.images_per_class,
        dataset_bytes=found.source.pictures * request.picture_numbers,
        space="features",
        feature_encoder=EncoderReference(file=file, sha256=encoder.sha256, query_size=encoder.query_size),
        image=ImageDescription(channels=channels, height=height, width=width),
        provenance=made_now(
            dataset=data.name,
            dataset_sha256=found.source.digest,
            dataset_licence=data.licence,
            method=request.method,
            hyper_parameters={
                "citation": CITATIONS[request.method],
                **_size(found.memory),
                "storage": request.storage,
                **found.source.settings,
            },
            seed=request.seed,
            outer_steps=request.schedule.outer_steps if request.method == "features" else 0,
            seconds=round(seconds, 1),
            device=device_name(torch.device("cpu")),
        ),
    )
    return MemoryBundle(manifest, found.memory, found.preprocessing, request.storage).save(request.output)
