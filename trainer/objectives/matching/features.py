"""Distribution matching: recalled items have the mean features of real ones, class by class (Zhao and Bilen, 2023).

For class c with recalled items S_c and real items T_c, and a network whose features are phi:

    sum over c of || mean of phi(a(s)), s in S_c  -  mean of phi(a(t)), t in T_c ||^2

where a is a random transform, the same for all items of a class. No network is ever trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.networks import Parameters
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.inner.layer_features import AbstractLayerFeatures
from trainer.objectives.matching.networks import AbstractNetworks
from trainer.objectives.matching.pairs import class_pairs
from trainer.objectives.sampler import OuterBatch, Sampler


@final
@dataclass(frozen=True, eq=False)
class DistributionMatching(AbstractObjective):
    """Squared distance between class means of the last features; `real_per_class` real items of each class.

    `rows_per_class` bounds the recalled items of a class in an outer step (0: all of them).
    """

    features: AbstractLayerFeatures
    networks: AbstractNetworks
    real_per_class: int
    rows_per_class: int = 0
    augmentation: tuple[str, ...] = ()

    def begin(self, generator: torch.Generator) -> State:
        return self.networks.begin(generator)

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        return self.networks.advance(sampler, state, generator)

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        batch = sampler.batch(sampler.draw_classes(0, generator), self.real_per_class, generator)
        return self.compare(batch, self.networks.parameters(state, generator, batch.items.device), generator)

    def compare(self, batch: OuterBatch, parameters: Parameters, generator: torch.Generator) -> Tensor:
        """The distance, summed over classes, in the features of a network with these parameters."""
        distances = []
        for pair in class_pairs(batch, self.augmentation, generator, rows=self.rows_per_class):
            with torch.no_grad():
                real = self.features(parameters, pair.real)[-1].mean(dim=0)
            recalled = self.features(parameters, pair.items)[-1].mean(dim=0)
            distances.append((recalled - real).square().sum())
        return torch.stack(distances).sum()
