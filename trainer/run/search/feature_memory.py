"""A memory of features: what a few vectors per class say in the space of a pre-trained encoder, within seconds.

`exact` stores a head so that one training step gives it back, and what its classes look like. `features` trains a few
vectors per class through the steps of a linear head. Both are chosen on validation features, and the test features are
read once, after the bundle is written.
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
from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.io.atomic import write_atomically
from recall_server.core.memory import AbstractMemory, AddressedBases, DescribedClasses, Storage, StoredItems
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.device import device_name
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import ImageDataset
from trainer.data.splits import Split
from trainer.evaluation.evaluate import Accuracies, Runs, evaluate_labels
from trainer.run.federated.picture_counts import picture_counts
from trainer.starts.features.described_classes import best_exact, best_head, is_centred
from trainer.starts.features.trained_features import Labelled, Schedule, retraining, train_vectors

FeatureMethod = Literal["features", "exact"]
HEADS: Final = 5  # fresh heads that the test features are read with
MOST_VECTORS: Final = 24  # of a class; more gain nothing that validation shows
ROUNDING: Final = 1e-2  # of the length of features in half precision
MEAN_OF: Final = 50  # features of one start vector, where a class has several
CITATIONS: Final = {
    "features": "Deng and Russakovsky (2022), unrolled in the features of a frozen encoder",
    "exact": "a stored linear head (compare Chen, Huang and Weng, 2024) and statistics of its classes",
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
    method: FeatureMethod = "exact"
    storage: Storage = "float32"
    seed: int = 0
    schedule: Schedule = Schedule(outer_steps=400, subsets=0.25)

    @property
    def numbers(self) -> int:
        """How many numbers the memory may store: as many as that many pictures of each class have."""
        return int(self.images_per_class * len(self.dataset.classes) * self.picture_numbers)

    @property
    def vectors(self) -> int:
        """How many vectors of each class `features` trains. ValueError where the budget allows none."""
        allowed = self.numbers // (len(self.dataset.classes) * self.encoder.query_size)
        if allowed < 1:
            raise ValueError(
                f"{self.images_per_class:g} images per class are {self.numbers // len(self.dataset.classes)} numbers, "
                f"fewer than the {self.encoder.query_size} of one vector per class"
            )
        return min(allowed, MOST_VECTORS)


class Probe(NamedTuple):
    """A linear probe: a head that was trained on all features, in the space of `preprocessing`."""

    head: LinearHead
    preprocessing: Standardise

    def accuracy(self, split: Split) -> float:
        """Its share of right answers for features [N, D, 1, 1]."""
        right = 0
        for chunk in split.chunks(4096):
            logits = self.head.logits(self.preprocessing.to_model(chunk.pixels()).flatten(1))
            right += int((logits.argmax(dim=1) == chunk.labels).sum())
        return right / len(split)


class Found(NamedTuple):
    """A memory, its space, how heads are trained on it, its accuracy on validation features, and what it is."""

    memory: AbstractMemory
    preprocessing: Standardise
    retraining: Retraining
    accuracy: float
    said: str
    probe: Probe | None = None


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
    found = _exact(request) if request.method == "exact" else _trained(request)
    seconds = time.monotonic() - started
    report(f"{found.said} after {seconds:.1f} s: {100 * found.accuracy:.1f} % on validation pictures")
    return Made(_write(request, found, seconds), found)


def heads_accuracy(bundle: MemoryBundle, split: Split) -> Accuracies:
    """The accuracy of fresh heads on features [N, D, 1, 1]."""
    return evaluate_labels(bundle, split, Runs(bundle.manifest.retraining, range(HEADS), torch.device("cpu")))


def linear_probe(data: ImageDataset) -> Probe:
    """The probe of all training features whose ridge is best on validation features."""
    space, classes = _space(data.train), len(data.classes)
    train, validation = _labelled(data.train, space), _labelled(data.validation, space)
    return Probe(best_head(train, validation, classes, bias=is_centred(space)).head, space)


def _labelled(split: Split, preprocessing: Standardise) -> Labelled:
    """Features in half precision, of which a hundred thousand take 256 MB."""
    chunks = [preprocessing.to_model(chunk.pixels()).flatten(1).half() for chunk in split.chunks(4096)]
    return Labelled(torch.cat(chunks), split.labels)


def _trained(request: FeatureRequest) -> Found:
    vectors, preprocessing = request.vectors, Standardise.fit(request.dataset.train.images)
    train, validation = (
        _labelled(split, preprocessing) for split in (request.dataset.train, request.dataset.validation)
    )
    generator = torch.Generator().manual_seed(request.seed)
    start = _means(train, len(request.dataset.classes), vectors, generator)
    best = train_vectors(start, train, validation, request.schedule, generator=generator)
    schedule = retraining(best, request.schedule)
    said = f"{vectors} vector{'s' * (vectors > 1)} per class"
    return Found(StoredItems(best.vectors), preprocessing, schedule, best.accuracy, said)


def _exact(request: FeatureRequest) -> Found:
    preprocessing = _space(request.dataset.train)
    train, validation = (
        _labelled(split, preprocessing) for split in (request.dataset.train, request.dataset.validation)
    )
    found = best_exact(train, validation, preprocessing, len(request.dataset.classes), request.numbers)
    memory, said = found.memory, f"a head along {len(found.memory.bases)} bases"
    if isinstance(memory, DescribedClasses):
        said = f"a head and {len(memory.centres)} centres per class along {len(memory.bases)} bases"
    return Found(memory, found.preprocessing, found.retraining, found.accuracy, said, Probe(found.head, preprocessing))


def _space(train: Split) -> Standardise:
    """The space of features of length one is the same for all memories, and their numbers have the mean square one."""
    width = train.images.shape[1]
    lengths = torch.cat([chunk.pixels().flatten(1).norm(dim=1) for chunk in train.chunks(4096)])
    if float((lengths - 1).abs().max()) > ROUNDING:
        return Standardise.fit(train.images)
    return Standardise(torch.zeros(width), torch.full((width,), width**-0.5))


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


def _size(memory: AbstractMemory) -> dict[str, int]:
    if isinstance(memory, DescribedClasses):
        return {"bases": len(memory.bases), "centres": len(memory.centres)}
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
                **_size(found.memory),
                **picture_counts(data.train.labels, len(data.classes)),
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
