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
from trainer.objectives.inner.layer_features import AbstractLayerFeatures
from trainer.objectives.matching.base import AbstractMatching
from trainer.objectives.sampler import OuterBatch


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class DistributionMatching(AbstractMatching):
    """Squared distance between class means of the last features."""

    features: AbstractLayerFeatures

    def compare(self, batch: OuterBatch, parameters: Parameters, generator: torch.Generator) -> Tensor:
        """The distance, summed over classes, in the features of a network with these parameters."""
        distances = []
        for pair in self.pairs(batch, generator):
            with torch.no_grad():
                real = self.features(parameters, pair.real)[-1].mean(dim=0)
            recalled = self.features(parameters, pair.items)[-1].mean(dim=0)
            distances.append((recalled - real).square().sum())
        return torch.stack(distances).sum()
