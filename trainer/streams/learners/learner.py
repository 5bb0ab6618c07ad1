"""The interface of a learner: it is told when a task begins and ends, and sees every minibatch once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.io import tensor_file
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.retraining import Retraining
from trainer.data.splits import Split
from trainer.streams.sources.task import CPU, Pictures, TaskHeader

Predict = Callable[[Tensor], Tensor]  # pictures [N, C, H, W] in pixel space -> labels [N] of one task


@dataclass(frozen=True)
class State:
    """The state of a learner, sufficient to continue with the same results: plain values, and tensors by name."""

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Allowance:
    """What a learner may use: a buffer of `capacity` numbers for `tasks` tasks.

    `seed` determines all of its random choices. Networks are trained on `device`; the buffer is on the CPU.
    """

    capacity: int
    tasks: int
    seed: int
    device: torch.device = CPU


class AbstractStreamLearner(ABC):
    """Learns one task after another in a single pass. Its random choices come from its own generator."""

    name: str
    settled: bool = False  # whether the classifier of a finished task does not change any more
    preprocessing: AbstractPreprocessing

    @abstractmethod
    def begin(self, header: TaskHeader) -> None:
        """Begin a task. Raises ValueError or InvalidDataset, without any effect, if it cannot be learned."""

    @abstractmethod
    def observe(self, batch: Split) -> None:
        """Learn from the next samples of the task, which are not shown again."""

    @abstractmethod
    def finish(self) -> None:
        """End the task. Raises InvalidDataset if it cannot be kept; it can then be continued."""

    @abstractmethod
    def predictor(self, number: int) -> Predict:
        """A classifier for the classes of the task with this number."""

    @abstractmethod
    def numbers(self) -> int:
        """How many numbers are stored in the buffer now."""

    @abstractmethod
    def state(self) -> State:
        """The complete state, which may be taken between any two minibatches."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Restore a state. Raises KeyError, TypeError or ValueError for one of another learner."""


def fresh_predictor(
    images: Tensor,
    header: TaskHeader,
    preprocessing: AbstractPreprocessing,
    retraining: Retraining,
    *,
    seed: int,
    device: torch.device,
) -> Predict:
    """The predictor of a fresh network trained on images [k, r, C, H, W] of a task's k classes, in model space."""
    classifier = FreshClassifier(
        header.classes, header.image_shape, preprocessing, retraining, seed=seed, device=device
    ).fit(images, torch.eye(len(header.classes)))
    return lambda pixels: classifier.predict_probabilities(pixels).argmax(dim=1)


def accuracy(predict: Predict, pictures: Pictures, size: int) -> float:
    """The accuracy on these pictures, which are made `size` at a time."""
    right = sum(int((predict(part.pixels()) == part.labels).sum()) for part in pictures.chunks(size))
    return right / len(pictures)


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix.`, by the rest of the name."""
    return tensor_file.with_prefix(f"{prefix}.", tensors)


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `with_prefix`."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}
