"""Memories of some classes of a data set of features, for benchmarks that keep the other classes from them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recall_server.core.memory import DescribedClasses
from recall_server.core.memory.storage import fake_quantise
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from trainer.data.splits import ImageDataset, Split
from trainer.starts.features.described_classes import best_exact
from trainer.starts.features.trained_features import Labelled

IMAGE_NUMBERS = 32 * 32 * 3


class ClassMemory(NamedTuple):
    """A memory as its file would recall it, its space, and the schedule of its heads."""

    memory: DescribedClasses
    preprocessing: Standardise
    retraining: Retraining


def of_classes(split: Split, chosen: Tensor) -> Labelled:
    """Features [n, D] of the classes `chosen`, labelled by their places in it."""
    position = torch.full((int(max(split.labels.max(), chosen.max())) + 1,), -1)
    labels = position.scatter(0, chosen, torch.arange(len(chosen)))[split.labels]
    return Labelled(split.images[labels >= 0].flatten(1).float(), labels[labels >= 0])


def memory_of_classes(dataset: ImageDataset, chosen: Tensor, images_per_class: float = 1) -> ClassMemory:
    """The memory of these classes by `exact`, at the numbers of so many pictures of CIFAR of each, as int8."""
    width = dataset.train.images.shape[1]
    space = Standardise(torch.zeros(width), torch.full((width,), width**-0.5))  # features have length one
    train, validation = (of_classes(split, chosen) for split in (dataset.train, dataset.validation))
    scaled = [Labelled(each.features * width**0.5, each.labels) for each in (train, validation)]
    numbers = images_per_class * len(chosen) * IMAGE_NUMBERS
    found = best_exact(scaled[0], scaled[1], space, len(chosen), numbers)
    memory = fake_quantise(found.memory, "int8")
    assert isinstance(memory, DescribedClasses), "these numbers suffice for descriptions"
    return ClassMemory(memory, found.preprocessing, found.retraining)
