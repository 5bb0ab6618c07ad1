"""A memory of features: what a few vectors per class say in the space of a pre-trained encoder, within seconds.

The test features are read once, after the bundle is written.
"""

from __future__ import annotations

import hashlib
import time
from typing import Final, NamedTuple

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.bundle.manifest import EncoderReference, ImageDescription
from recall_server.core.io.atomic import write_atomically
from trainer.data.splits import Split
from trainer.evaluation.evaluate import Accuracies, Runs, evaluate_labels
from trainer.run.search.feature_methods import FeatureRequest, Found, find_memory
from trainer.run.search.made_at_once import Report, manifest_of, with_test_accuracy

HEADS: Final = 5  # fresh heads that the test features are read with
CITATIONS: Final = {
    "features": "Deng and Russakovsky (2022), unrolled in the features of a frozen encoder",
    "exact": "a stored linear head (compare Chen, Huang and Weng, 2024) and statistics of its classes",
    "private": "private least squares (Mehta et al., 2023) by the Gaussian mechanism (Balle and Wang, 2018)",
}


def distill_features(request: FeatureRequest, report: Report) -> MemoryBundle:
    """Make, write and measure the memory. `report` gets a sentence for each step.

    Raises ValueError for a budget that is too small, and StorageFailed if the files cannot be written.
    """
    bundle = make_features(request, report).bundle
    return with_test_accuracy(bundle, request.dataset, _fresh_heads(bundle), "heads", report).save(request.output)


class WrittenMemory(NamedTuple):
    """A memory of features that was written, and what was found on the way."""

    bundle: MemoryBundle
    found: Found


def make_features(request: FeatureRequest, report: Report) -> WrittenMemory:
    """Make and write the memory, without a look at the test features. Raises the errors of `distill_features`."""
    started, data = time.monotonic(), request.dataset
    report(
        f"{data.name}: {len(data.classes)} classes, {request.encoder.query_size} features of {len(data.train)} "
        f"pictures to learn from, {len(data.validation)} to choose by, {len(data.test)} to test on"
    )
    found = find_memory(request)
    seconds = time.monotonic() - started
    report(f"{found.said} after {seconds:.1f} s: {100 * found.accuracy:.1f} % on validation pictures")
    return WrittenMemory(_write(request, found, seconds), found)


def heads_accuracy(bundle: MemoryBundle, split: Split) -> Accuracies:
    """The accuracy of fresh heads on features [N, D, 1, 1]."""
    return evaluate_labels(bundle, split, _fresh_heads(bundle))


def _fresh_heads(bundle: MemoryBundle) -> Runs:
    return Runs(bundle.manifest.retraining, range(HEADS), torch.device("cpu"))


def _write(request: FeatureRequest, found: Found, seconds: float) -> MemoryBundle:
    """Write the encoder into its folder, then the bundle."""
    data, encoder = request.dataset, request.encoder
    file = f"{request.encoder_name}.onnx"
    path = encoder_folder(request.output) / file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != encoder.sha256:
        write_atomically(path, encoder.model)
    channels, height, width = encoder.image_shape
    manifest = manifest_of(
        found.memory,
        found.preprocessing,
        data,
        request.output,
        retraining=found.retraining,
        images_per_class=request.images_per_class,
        dataset_bytes=found.source.pictures * request.picture_numbers,
        space="features",
        feature_encoder=EncoderReference(file=file, sha256=encoder.sha256, query_size=encoder.query_size),
        image=ImageDescription(channels=channels, height=height, width=width),
        made={
            "dataset_sha256": found.source.digest,
            "method": request.method,
            "hyper_parameters": {
                "citation": CITATIONS[request.method],
                **found.sizes,
                "storage": request.storage,
                **found.source.settings,
            },
            "seed": request.seed,
            "outer_steps": request.schedule.outer_steps if request.method == "features" else 0,
            "seconds": round(seconds, 1),
        },
    )
    return MemoryBundle(manifest, found.memory, found.preprocessing, request.storage).save(request.output)
