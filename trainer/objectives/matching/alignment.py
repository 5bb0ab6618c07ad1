"""CAFE (Wang et al., 2022): features of all layers are aligned, and recalled centres tell real items apart.

With s_lc and t_lc the means over recalled and real items of class c of the activations of layer l, and v_c the mean of
the last features of the recalled items:

    sum over l of w_l sum over c of || s_lc - t_lc ||^2  +  w_d sum over real items of CE( <f(t), v>, label of t )

The authors also add the loss of the network on real items, which has no gradient for recalled ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.networks import Parameters
from trainer.objectives.inner.layer_features import Layers
from trainer.objectives.matching.activations import Activations
from trainer.objectives.matching.base import AbstractMatching
from trainer.objectives.matching.pairs import ClassPair
from trainer.objectives.sampler import OuterBatch


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureAlignment(AbstractMatching):
    """The two losses above.

    `early` and `late` are the weights of the activations of all blocks but the last, and of the last. The last features
    count twice as much as the latter, as in the authors' code. `discrimination` is w_d.
    """

    activations: Activations
    early: float = 0.1
    late: float = 1.0
    discrimination: float = 0.01

    def compare(self, batch: OuterBatch, parameters: Parameters, generator: torch.Generator) -> Tensor:
        """Both losses at a network with these parameters."""
        pairs = list(self.pairs(batch, generator))
        with torch.no_grad():
            real = [self.activations(parameters, pair.real) for pair in pairs]
        recalled = [self._means(self.activations(parameters, pair.items)) for pair in pairs]
        weights = [self.early] * (len(recalled[0]) - 2) + [self.late, 2 * self.late]
        aligned = [
            weight * (mine - theirs).square().sum()
            for own, other in zip(recalled, map(self._means, real), strict=True)
            for weight, mine, theirs in zip(weights, own, other, strict=True)
        ]
        centres = torch.stack([layers[-1] for layers in recalled])  # [k, F]
        return torch.stack(aligned).sum() + self.discrimination * self._discriminated(pairs, real, centres)

    @staticmethod
    def _means(layers: Layers) -> Layers:
        return tuple(layer.mean(dim=0) for layer in layers)

    @staticmethod
    def _discriminated(pairs: list[ClassPair], real: list[Layers], centres: Tensor) -> Tensor:
        features = torch.cat([layers[-1] for layers in real])
        labels = torch.arange(len(pairs), device=centres.device).repeat_interleave(
            torch.tensor([len(pair.real) for pair in pairs], device=centres.device)
        )
        return cross_entropy(features @ centres.T, labels, reduction="sum")
