"""What matching objectives share: recalled and real items of each class are compared at a network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recall_server.core.networks import Parameters
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.matching.networks import AbstractNetworks
from trainer.objectives.matching.pairs import ClassPair, class_pairs
from trainer.objectives.sampler import OuterBatch, Sampler


@dataclass(frozen=True, eq=False, kw_only=True)
class AbstractMatching(AbstractObjective):
    """A comparison at the `networks` of each outer step, with `real_per_class` real items of each class.

    `rows_per_class` bounds the recalled items of a class in an outer step (0: all of them). The augmentation is the
    same for all items of a class.
    """

    networks: AbstractNetworks
    real_per_class: int
    rows_per_class: int = 0
    augmentation: tuple[str, ...] = ()

    @abstractmethod
    def compare(self, batch: OuterBatch, parameters: Parameters, generator: torch.Generator) -> Tensor:
        """The scalar loss at a network with these parameters."""

    def begin(self, generator: torch.Generator) -> State:
        return self.networks.begin(generator)

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        return self.networks.advance(sampler, state, generator)

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        return self.compare(*self.drawn(sampler, state, generator), generator)

    def drawn(self, sampler: Sampler, state: State, generator: torch.Generator) -> tuple[OuterBatch, Parameters]:
        """The items and the network of this outer step."""
        batch = sampler.draw_all(self.real_per_class, generator)
        return batch, self.networks.parameters(state, generator, batch.items.device)

    def pairs(self, batch: OuterBatch, generator: torch.Generator) -> Iterator[ClassPair]:
        """The recalled and real items of each class, augmented."""
        return class_pairs(batch, self.augmentation, generator, rows=self.rows_per_class)
