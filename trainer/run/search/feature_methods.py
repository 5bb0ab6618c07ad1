"""How memories of features are made, before anything is written: a method is a function from a request to a memory.

`exact` stores a head so that one training step gives it back, and what its classes look like. `features` trains a few
vectors per class through the steps of a linear head. Both are chosen on validation features. `private` describes its
classes with differential privacy, and no picture chooses anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.memory import AbstractMemory, Storage, StoredItems
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import ImageDataset
from trainer.data.splits import Split
from trainer.run.federated.picture_counts import picture_counts
from trainer.starts.features.anchors import SETTING, Anchors
from trainer.starts.features.described_classes import best_exact, best_head, is_centred
from trainer.starts.features.linear_head import HeadSettings
from trainer.starts.features.trained_features import Labelled, Schedule, retraining, train_vectors
from trainer.starts.private.class_statistics import Privacy
from trainer.starts.private.described_classes import private_memory

FeatureMethod = Literal["features", "exact", "private"]
MOST_VECTORS: Final = 24  # of a class; more gain nothing that validation shows
ROUNDING: Final = 1e-2  # of the length of features in half precision
SAID: Final = {"bases": "along {} bases", "centres": "with {} centres per class", "features": "at {} features"}
MEAN_OF: Final = 50  # features of one start vector, where a class has several


@dataclass(frozen=True)
class FeatureRequest:
    """What to make of a data set of features [N, D, 1, 1], and where to write it.

    `picture_numbers` is the size of a picture of the data set in numbers, in which the budget is counted. `privacy` is
    what the method `private` promises, and `head` how `exact` trains its head, beside the `anchors`, if any.
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
    privacy: Privacy = Privacy()
    head: HeadSettings = HeadSettings()
    anchors: Anchors | None = None

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


class DataSummary(NamedTuple):
    """What a manifest says of the data set: how many pictures, their digest, and further `settings`."""

    pictures: int
    digest: str
    settings: Mapping[str, Any]


class Found(NamedTuple):
    """A memory, its space, how heads are trained on it, its accuracy on validation features, and what it is.

    `sizes` are the numbers of its parts.
    """

    memory: AbstractMemory
    preprocessing: Standardise
    retraining: Retraining
    accuracy: float
    said: str
    sizes: Mapping[str, int]
    source: DataSummary
    probe: Probe | None = None


def find_memory(request: FeatureRequest) -> Found:
    """Make the memory of a request. Raises ValueError for a budget that is too small."""
    return MAKERS[request.method](request)


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
    source = _source(request.dataset, best.accuracy)
    sizes = {"vectors_per_class": vectors}
    return Found(StoredItems(best.vectors), preprocessing, schedule, best.accuracy, said, sizes, source)


def _exact(request: FeatureRequest) -> Found:
    preprocessing = _space(request.dataset.train)
    train, validation = (
        _labelled(split, preprocessing) for split in (request.dataset.train, request.dataset.validation)
    )
    anchors = None if request.anchors is None else request.anchors.within(preprocessing)
    found = best_exact(
        train, validation, preprocessing, len(request.dataset.classes), request.numbers, request.head, anchors
    )
    sizes = found.memory.sizes()
    said = " ".join(["a head", *(SAID[part].format(count) for part, count in sizes.items())])
    probe, source = Probe(found.head, preprocessing), _source(request.dataset, found.accuracy)
    beside = {} if anchors is None else {SETTING: anchors.sha256}
    source = source._replace(settings={**source.settings, **request.head.recorded(), **beside})
    return Found(found.memory, found.preprocessing, found.retraining, found.accuracy, said, sizes, source, probe)


def _private(request: FeatureRequest) -> Found:
    """The memory and its manifest depend on the pictures only through noisy statistics.

    The digest is a random number, since a digest of the pictures would tell whether a guess of all of them is right.
    """
    data, privacy = request.dataset, request.privacy
    train = Labelled(data.train.images.flatten(1), data.train.labels)
    memory, step, counts = private_memory(train, len(data.classes), request.numbers, privacy)
    learned = LinearHead(step.vectors, torch.zeros(len(data.classes)))  # its scale changes no answer
    accuracy = Probe(learned, step.preprocessing).accuracy(data.validation)
    said = f"a head along {len(memory.bases)} bases, epsilon {privacy.epsilon:g} at delta {privacy.delta:g},"
    source = DataSummary(int(counts.sum()), token_hex(32), picture_counts(counts) | privacy.recorded())
    return Found(memory, step.preprocessing, step.retraining, accuracy, said, memory.sizes(), source)


MAKERS: Final[Mapping[FeatureMethod, Callable[[FeatureRequest], Found]]] = {
    "features": _trained,
    "exact": _exact,
    "private": _private,
}


def _source(data: ImageDataset, accuracy: float) -> DataSummary:
    counts = torch.bincount(data.train.labels, minlength=len(data.classes))
    settings = picture_counts(counts) | {"validation_accuracy": round(accuracy, 4)}
    return DataSummary(len(data.train) + len(data.validation), data.digest, settings)


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
