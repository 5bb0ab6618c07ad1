"""What the outer loop optimises: a memory addressed by labels, or one addressed by pictures through an encoder.

A learner holds the leaf tensors and draws episodes from real data; the objective scores them. Both kinds of
addressing share every other line of the trainer.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from recall_server.core.encoders.weights import all_but_the_last
from recall_server.core.memory import AbstractMemory, Storage
from recall_server.core.memory.storage import fake_quantise
from recall_server.core.networks import AbstractNetwork, Parameters
from recall_server.core.training.fused import trainable_parameters
from recall_server.core.training.retraining import Retraining
from trainer.objectives.base import OuterBatch

HIGHEST_RATE = 10.0  # that a manifest takes
LEARNED_RATE = "log_rate"  # the tensor that holds the logarithm of a learned step size


@dataclass(frozen=True)
class RealData:
    """Training pictures in model space on the device, with the members of every class."""

    images: Tensor
    labels: Tensor
    members: tuple[Tensor, ...]

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, classes: int) -> RealData:
        members = tuple(torch.nonzero(labels.cpu() == label).flatten() for label in range(classes))
        return cls(images, labels, members)

    def draw(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """Indices [count] of pictures of one class, without replacement while there are enough."""
        return _draw(self.members[label], count, generator)

    def draw_apart(self, label: int, shots: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices [shots] of pictures of one class, and [count] of others; no picture is in both.

        A class with too few pictures shows at most half of them, and repeats some within each part.
        """
        members = self.members[label]
        members = members[torch.randperm(len(members), generator=generator)]
        shown = min(shots, len(members) // 2)
        return _draw(members[:shown], shots, generator), _draw(members[shown:], count, generator)


def _draw(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    if count > len(members):
        return members[torch.randint(len(members), (count,), generator=generator)]
    return members[torch.randperm(len(members), generator=generator)[:count]]


class AbstractLearner(ABC):
    """Leaf tensors by name, and episodes drawn from real data.

    Episodes recall through `storage`, as the file would; gradients pass to the exact numbers of `memory`.
    """

    memory: AbstractMemory
    storage: Storage = "float32"

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that is optimised, by name."""

    @abstractmethod
    def episode(self, data: RealData, generator: torch.Generator) -> OuterBatch:
        """Recall for some classes, and draw real pictures of the same classes."""

    def as_stored(self, storage: Storage) -> Self:
        """The same learner with the memory that a file of this storage would hold; not to be optimised."""
        other = copy.copy(self)
        with torch.no_grad():
            other.memory = fake_quantise(self.memory, storage)
        return other


def with_learned_rate(retraining: Retraining, tensors: Mapping[str, Tensor]) -> Retraining:
    """The schedule with the step size that was learned along with the memory, where one was."""
    if LEARNED_RATE not in tensors:
        return retraining
    return retraining.model_copy(update={"learning_rate": min(HIGHEST_RATE, tensors[LEARNED_RATE].exp().item())})


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def _draw_classes(total: int, count: int, generator: torch.Generator) -> list[int]:
    chosen: list[int] = torch.randperm(total, generator=generator)[:count].tolist()
    return sorted(chosen)


def _real_batch(data: RealData, classes: list[int], batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """About `batch` pictures, the same number of each class, and their one-hot targets."""
    each = max(1, batch // len(classes))
    index = torch.cat([data.draw(label, each, generator) for label in classes])
    targets = torch.eye(len(classes)).repeat_interleave(each, dim=0)
    return data.images[index.to(data.images.device)], targets.to(data.images.device)


@final
class LabelLearner(AbstractLearner):
    """A memory addressed by one-hot labels. `classes_per_step` classes take part in every outer step.

    Where a `rate` is given the step size of inner training is learned, from there on, as its logarithm.
    """

    def __init__(
        self,
        memory: AbstractMemory,
        *,
        classes_per_step: int,
        real_batch: int,
        rate: float | None = None,
    ) -> None:
        self.memory = memory.replace({name: _leaf(value) for name, value in memory.learned().items()})
        self.classes_per_step = classes_per_step
        self.real_batch = real_batch
        device = next(iter(self.memory.tensors().values())).device
        self.others = {} if rate is None else {LEARNED_RATE: _leaf(torch.tensor(rate, device=device).log())}

    def tensors(self) -> dict[str, Tensor]:
        return self.memory.learned() | self.others

    def episode(self, data: RealData, generator: torch.Generator) -> OuterBatch:
        classes = _draw_classes(self.memory.query_size, self.classes_per_step, generator)
        device = data.images.device
        queries = torch.eye(self.memory.query_size, device=device)[classes]
        images, targets = _real_batch(data, classes, self.real_batch, generator)
        recalled = fake_quantise(self.memory, self.storage).recall(queries)
        rate = self.others[LEARNED_RATE].exp() if LEARNED_RATE in self.others else None
        return OuterBatch(recalled, images, targets, rate)


@final
class ImageLearner(AbstractLearner):
    """A memory addressed by pictures (paper, 5.3.2 and B.3): encoder, bases and matrices are trained together.

    A class's query is the mean of its pictures' feature vectors, `shots` pictures a class; the real pictures of the
    outer loss are others than the query pictures. With `begins_networks` every network begins with the layers that the
    encoder has learned so far, so that these learn from the outer loss in both ways.
    """

    def __init__(
        self,
        memory: AbstractMemory,
        encoder: AbstractNetwork,
        parameters: Mapping[str, Tensor],
        *,
        classes_per_step: int,
        shots: int,
        real_batch: int,
        begins_networks: bool = False,
    ) -> None:
        if encoder.classes != memory.query_size:
            raise ValueError(f"the encoder gives {encoder.classes} features, the memory asks for {memory.query_size}")
        self.memory = memory.replace({name: _leaf(value) for name, value in memory.learned().items()})
        self.encoder = encoder
        # A bias in front of a norm has no gradient but rounding noise, which Adam would turn into steps.
        self.leaves: Parameters = {name: _leaf(parameters[name]) for name in trainable_parameters(encoder)}
        self.parameters: Parameters = dict(parameters) | self.leaves
        self.classes_per_step = classes_per_step
        self.shots = shots
        self.real_batch = real_batch
        self.begins_networks = begins_networks

    def tensors(self) -> dict[str, Tensor]:
        return self.memory.learned() | {f"encoder.{name}": value for name, value in self.leaves.items()}

    def learned(self) -> Parameters | None:
        """What networks begin with now; None where they begin at random."""
        return all_but_the_last(self.parameters) if self.begins_networks else None

    def queries(self, pictures: Tensor) -> Tensor:
        """[q, shots, C, H, W] in model space -> [q, d_y]."""
        features = self.encoder.logits(self.parameters, pictures.flatten(0, 1))
        return features.reshape(*pictures.shape[:2], -1).mean(dim=1)

    def episode(self, data: RealData, generator: torch.Generator) -> OuterBatch:
        classes = _draw_classes(len(data.members), self.classes_per_step, generator)
        each = max(1, self.real_batch // len(classes))
        drawn = [data.draw_apart(label, self.shots, each, generator) for label in classes]
        shown, others = (torch.stack(index).to(data.images.device) for index in zip(*drawn, strict=True))
        pictures, real = data.images[shown], data.images[others]  # [q, shots, C, H, W] and [q, each, C, H, W]
        targets = torch.eye(len(classes), device=data.images.device)
        return OuterBatch(
            fake_quantise(self.memory, self.storage).recall(self.queries(pictures)),
            real.flatten(0, 1),
            targets.repeat_interleave(real.shape[1], dim=0),
            pretrained=self.learned(),
        )
