"""A private memory of pixels: made once, from noisy statistics, without a choice between candidates.

Comparing candidates on the training pictures would spend a part of the promised privacy, so neither the bases nor the
schedule is chosen by a comparison. The test pictures are read once, after the bundle is written.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final, NamedTuple

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import Storage
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import ImageDataset
from trainer.evaluation.evaluate import Runs
from trainer.methods.named import named
from trainer.methods.specs.budget import MemoryBudget, Size
from trainer.run.federated.picture_counts import picture_counts
from trainer.run.search.instant import SHARES
from trainer.run.search.made_at_once import Report, manifest_of, with_test_accuracy
from trainer.starts.private.class_statistics import Privacy
from trainer.starts.private.normal_pictures import PrivatePictures, private_pictures

METHOD: Final = "private"
CITATION: Final = "normal classes by the Gaussian mechanism (Balle and Wang, 2018)"
INSTANT: Final = named("principal")  # what is stored, and how classifiers are trained on it
NETWORKS: Final = 3  # that the test pictures are read with


class PrivateSettings(Privacy):
    """The promise, and the schedule by which classifiers are trained."""

    retraining: Retraining = INSTANT.retraining


@dataclass(frozen=True)
class PrivateRequest:
    """What to make of a data set of pictures, and where to write it. A size of None is derived from the others."""

    dataset: ImageDataset
    size: Size
    output: Path
    settings: PrivateSettings
    storage: Storage = "float32"
    seed: int = 0

    @property
    def budget(self) -> MemoryBudget:
        """The bases and rows. Raises ValueError where they do not fit."""
        images = 1 if self.size.images_per_class is None else self.size.images_per_class
        stored = INSTANT.memory.stored_numbers(INSTANT.shape(self.dataset))
        allowed = images * len(self.dataset.classes) * self.dataset.image_numbers
        usual = max(1, min(stored, int(SHARES[0] * allowed / stored)))
        bases = usual if self.size.bases is None else self.size.bases
        return INSTANT.budget(self.dataset, images_per_class=images, bases=bases, rows=self.size.rows)


class MadePrivate(NamedTuple):
    """What was made, of how large a budget."""

    pictures: PrivatePictures
    budget: MemoryBudget


def make_private(request: PrivateRequest) -> MadePrivate:
    """The memory of a request, which is written nowhere. Raises the errors of `private_pictures`."""
    budget, data = request.budget, request.dataset
    size = {"bases": budget.bases, "rows": budget.rows}
    found = private_pictures(data.train, classes=len(data.classes), **size, privacy=request.settings, seed=request.seed)
    return MadePrivate(found, budget)


def distill_private(request: PrivateRequest, report: Report, device: torch.device) -> MemoryBundle:
    """Make, write and measure the memory. Raises ValueError, and StorageFailed if the file cannot be written."""
    started, promised = time.monotonic(), request.settings
    made = make_private(request)
    bundle = _bundle(request, made, time.monotonic() - started).save(request.output)
    promise = f"epsilon {promised.epsilon:g} at delta {promised.delta:g}"
    report(f"{made.budget.bases} bases, {made.budget.rows} rows, {promise}, after {time.monotonic() - started:.1f} s")
    runs = Runs(bundle.manifest.retraining, range(NETWORKS), device)
    return with_test_accuracy(bundle, request.dataset, runs, "networks", report).save(request.output)


def _bundle(request: PrivateRequest, made: MadePrivate, seconds: float) -> MemoryBundle:
    """The bundle. Everything that it says of the pictures is noisy, and their digest is a random number."""
    data, found = request.dataset, made.pictures
    size = {"memory.bases": made.budget.bases, "memory.rows": made.budget.rows}
    counts = picture_counts(found.counts)
    manifest = manifest_of(
        found.memory,
        found.preprocessing,
        data,
        request.output,
        retraining=request.settings.retraining,
        images_per_class=made.budget.images_per_class,
        dataset_bytes=int(found.counts.sum()) * data.image_numbers,
        made={
            "dataset_sha256": token_hex(32),
            "method": METHOD,
            "hyper_parameters": {"citation": CITATION} | size | counts | request.settings.recorded(),
            "seed": request.seed,
            "outer_steps": 0,
            "seconds": round(seconds, 1),
        },
    )
    return MemoryBundle(manifest, found.memory, found.preprocessing, request.storage)
