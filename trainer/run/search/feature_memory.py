"""Makes a memory of features within seconds: a few vectors per class in the space of a pre-trained encoder.

With the method `features`, vectors are trained through the steps of a linear head. With `exact`, they store a head that
one training step recovers. Choices are made on validation features; test features are read once, after the bundle is
written.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.describe import describe, made_now
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.bundle.manifest import EncoderReference, ImageDescription, MeasuredAccuracy
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.io.atomic import write_atomically
from recall_server.core.memory import Storage, StoredItems
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.device import device_name
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import ImageDataset
from trainer.data.splits import Split
from trainer.evaluation.evaluate import evaluate_labels
from trainer.starts.exact_head import exact_memory, softmax_head
from trainer.starts.trained_features import Labelled, Schedule, retraining, train_vectors

FeatureMethod = Literal["features", "exact"]
HEADS: Final = 5  # heads that are tested on the test features
RIDGES: Final = (1e-4, 1e-3, 1e-2)  # candidates for the ridge of the head that `exact` stores
MOST_VECTORS: Final = 24  # most vectors of a class; more do not improve validation
MEAN_OF: Final = 50  # features whose mean is a start vector, if a class has several vectors
CITATIONS: Final = {
    "features": "Deng and Russakovsky (2022), unrolled in the features of a frozen encoder",
    "exact": "one step of training gives a stored linear head back (compare Chen, Huang and Weng, 2024)",
}

Report = Callable[[str], None]


@dataclass(frozen=True)
class FeatureRequest:
    """What to make of a data set of features [N, D, 1, 1], and where to write it.

    `picture_numbers` is the size of a picture of the data set in numbers, in which the budget is counted.
    """

    dataset: ImageDataset
    encoder: QueryEncoder
    encoder_name: str
    picture_numbers: int
    images_per_class: float
    output: Path
    method: FeatureMethod = "features"
    storage: Storage = "float32"
    seed: int = 0
    schedule: Schedule = Schedule(outer_steps=400, subsets=0.25)

    @property
    def vectors(self) -> int:
        """The number of vectors per class that the budget allows, up to MOST. Raises ValueError for none."""
        allowed = int(self.images_per_class * self.picture_numbers // self.encoder.query_size)
        if allowed < 1:
            raise ValueError(
                f"{self.images_per_class:g} images per class are {self.images_per_class * self.picture_numbers:.0f} "
                f"numbers, fewer than the {self.encoder.query_size} of one vector per class"
            )
        return 1 if self.method == "exact" else min(allowed, MOST_VECTORS)


class Found(NamedTuple):
    """A memory, its model space, the schedule of its heads, and their accuracy on validation features."""

    memory: StoredItems
    preprocessing: Standardise
    retraining: Retraining
    accuracy: float


def distill_features(request: FeatureRequest, report: Report) -> MemoryBundle:
    """Make, write and measure the memory. `report` gets a sentence for each step.

    Raises ValueError for a budget that is too small, and StorageFailed if the files cannot be written.
    """
    started = time.monotonic()
    vectors, data = request.vectors, request.dataset
    preprocessing = Standardise.fit(data.train.images)
    train, validation = (_labelled(split, preprocessing) for split in (data.train, data.validation))
    report(
        f"{data.name}: {len(data.classes)} classes, {request.encoder.query_size} features of {len(train.labels)} "
        f"pictures to learn from, {len(validation.labels)} to choose by, {len(data.test)} to test on"
    )
    make = _exact if request.method == "exact" else _trained
    found = make(request, train, validation, preprocessing)
    seconds = time.monotonic() - started
    report(
        f"{vectors} vector{'s' * (vectors > 1)} per class after {seconds:.1f} s: "
        f"{100 * found.accuracy:.1f} % on validation pictures"
    )
    bundle = _write(request, found, seconds)
    measured = evaluate_labels(
        bundle, data.test, retraining=found.retraining, seeds=range(HEADS), device=torch.device("cpu")
    )
    what = f"{data.name} test, {len(data.classes)}-way, {len(data.test)} pictures"
    row: MeasuredAccuracy = measured.row(network="linear", protocol="bundle", data=what)
    report(f"{100 * row.mean:.2f} % of {len(data.test)} test pictures, mean of {HEADS} heads")
    return bundle.with_accuracy([row]).save(request.output)


def _labelled(split: Split, preprocessing: Standardise) -> Labelled:
    """Features in half precision, of which a hundred thousand take 256 MB."""
    chunks = [preprocessing.to_model(chunk.pixels()).flatten(1).half() for chunk in split.chunks(4096)]
    return Labelled(torch.cat(chunks), split.labels)


def _trained(request: FeatureRequest, train: Labelled, validation: Labelled, preprocessing: Standardise) -> Found:
    generator = torch.Generator().manual_seed(request.seed)
    start = _means(train, len(request.dataset.classes), request.vectors, generator)
    best = train_vectors(start, train, validation, request.schedule, generator=generator)
    schedule = retraining(best, request.schedule)
    return Found(StoredItems(best.vectors), preprocessing, schedule, best.accuracy)


def _exact(request: FeatureRequest, train: Labelled, validation: Labelled, preprocessing: Standardise) -> Found:
    classes = len(request.dataset.classes)
    best: Found | None = None
    for ridge in RIDGES:
        head = softmax_head(train.features.float(), train.labels, classes, ridge)
        right = head.logits(validation.features.float()).argmax(dim=1) == validation.labels
        score = float(right.float().mean())
        if best is None or score > best.accuracy:
            best = Found(*exact_memory(head, preprocessing), score)
    assert best is not None, "there is a ridge to try"
    return best


def _means(train: Labelled, classes: int, vectors: int, generator: torch.Generator) -> Tensor:
    """The start [k, r, D]: each vector is the mean of some features of its class, of all of them if r is 1."""
    means = []
    for label in range(classes):
        own = train.features[train.labels == label].float()
        if vectors == 1:
            means.append(own.mean(dim=0, keepdim=True))
            continue
        drawn = torch.randint(len(own), (vectors, min(MEAN_OF, len(own))), generator=generator)
        means.append(own[drawn].mean(dim=1))
    return torch.stack(means)


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
        dataset_bytes=(len(data.train) + len(data.validation)) * request.picture_numbers,
        space="features",
        feature_encoder=EncoderReference(file=file, sha256=encoder.sha256, query_size=encoder.query_size),
        image=ImageDescription(channels=channels, height=height, width=width),
        provenance=made_now(
            dataset=data.name,
            dataset_sha256=data.digest,
            dataset_licence=data.licence,
            method=request.method,
            hyper_parameters={
                "citation": CITATIONS[request.method],
                "vectors_per_class": request.vectors,
                "storage": request.storage,
                "validation_accuracy": round(found.accuracy, 4),
            },
            seed=request.seed,
            outer_steps=request.schedule.outer_steps if request.method == "features" else 0,
            seconds=round(seconds, 1),
            device=device_name(torch.device("cpu")),
        ),
    )
    return MemoryBundle(manifest, found.memory, found.preprocessing, request.storage).save(request.output)
