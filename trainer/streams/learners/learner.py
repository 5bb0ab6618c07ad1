"""What learns from a stream: told when a task begins and ends, and shown every minibatch once in between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.retraining import Retraining
from trainer.data.splits import Split
from trainer.streams.sources.task import Pictures, TaskHeader

Predict = Callable[[Tensor], Tensor]  # pictures [N, C, H, W] in pixel space -> labels [N] of one task


@dataclass(frozen=True)
class State:
    """All that a learner needs to go on to the same end: plain values, and tensors by name."""

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


class AbstractStreamLearner(ABC):
    """Learns one task after another in a single pass. Every random choice comes from a generator of its own."""

    name: str
    settled: bool = False  # whether a finished task's classifier stays as it is
    preprocessing: AbstractPreprocessing

    @abstractmethod
    def begin(self, header: TaskHeader) -> None:
        """A new task. Raises ValueError or InvalidDataset for one that cannot be learned; nothing has changed then."""

    @abstractmethod
    def observe(self, batch: Split) -> None:
        """The next samples of the task; they are not shown again."""

    @abstractmethod
    def finish(self) -> None:
        """The task has ended. Raises InvalidDataset when it cannot be kept; it may still go on, or be abandoned."""

    @abstractmethod
    def predictor(self, number: int) -> Predict:
        """A classifier among the classes of a task that has begun, by its number."""

    @abstractmethod
    def numbers(self) -> int:
        """How many numbers are stored in the buffer now."""

    @abstractmethod
    def state(self) -> State:
        """Everything, to be restored between any two minibatches."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises KeyError, TypeError or ValueError for another learner's."""


def fresh_predictor(
    images: Tensor,
    header: TaskHeader,
    preprocessing: AbstractPreprocessing,
    retraining: Retraining,
    *,
    seed: int,
    device: torch.device,
) -> Predict:
    """Of a fresh network trained on images [k, r, C, H, W] of a task's k classes, in model space."""
    classifier = FreshClassifier(
        header.classes, header.image_shape, preprocessing, retraining, seed=seed, device=device
    ).fit(images, torch.eye(len(header.classes)))
    return lambda pixels: classifier.predict_probabilities(pixels).argmax(dim=1)


def accuracy(predict: Predict, pictures: Pictures, size: int) -> float:
    """Share of the pictures that are named rightly; they are made `size` at a time."""
    right = sum(int((predict(part.pixels()) == part.labels).sum()) for part in pictures.chunks(size))
    return right / len(pictures)


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix.`, without it."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `with_prefix`."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}
