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
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.inner.layer_features import Layers
from trainer.objectives.matching.activations import Activations
from trainer.objectives.matching.networks import AbstractNetworks
from trainer.objectives.matching.pairs import ClassPair, class_pairs
from trainer.objectives.sampler import OuterBatch, Sampler


@final
@dataclass(frozen=True, eq=False)
class FeatureAlignment(AbstractObjective):
    """The two losses above, with `real_per_class` real items of each class.

    `early` and `late` are the weights of the activations of all blocks but the last, and of the last. The last features
    count twice as much as the latter, as in the authors' code. `discrimination` is w_d. `rows_per_class` bounds the
    recalled items of a class in an outer step (0: all of them).
    """

    activations: Activations
    networks: AbstractNetworks
    real_per_class: int
    early: float = 0.1
    late: float = 1.0
    discrimination: float = 0.01
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
        """Both losses at a network with these parameters."""
        pairs = list(class_pairs(batch, self.augmentation, generator, rows=self.rows_per_class))
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
