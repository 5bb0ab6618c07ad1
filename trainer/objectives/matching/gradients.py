"""Gradient matching: a network gets the same gradients from recalled items as from real ones (Zhao et al., 2021).

For class c with recalled items S_c and real items T_c, and a network theta with mean cross-entropy L:

    sum over c of D( dL(a(S_c))/dtheta, dL(a(T_c))/dtheta )

where D is a distance between the weights of each layer, and a is a random transform, the same for all items of a class
(differentiable siamese augmentation, Zhao and Bilen, 2021). Contrastive signals (Lee et al., 2022) compare the mean of
the gradients over all classes instead. Networks are fresh, or trained between comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.networks import Parameters
from trainer.objectives.base import State
from trainer.objectives.inner.inner_training import gradient
from trainer.objectives.inner.steps.step import AbstractInnerStep
from trainer.objectives.matching.base import AbstractMatching
from trainer.objectives.matching.distances import Distance, Layers, distance
from trainer.objectives.matching.pairs import ClassPair
from trainer.objectives.sampler import OuterBatch, Sampler

INNER_WARMUP = 10  # comparisons at one network, after which contrastive signals are used in any case


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class GradientMatching(AbstractMatching):
    """Distance between gradients for the weights.

    From the network number `contrast_from` on (None: never), gradients are averaged over classes before they are
    compared.
    """

    step: AbstractInnerStep
    distance: Distance = "cosine"
    layers: Layers = "weights"
    contrast_from: int | None = None

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        return self.compare(*self.drawn(sampler, state, generator), generator, contrast=self._contrast(state))

    def compare(
        self, batch: OuterBatch, parameters: Parameters, generator: torch.Generator, *, contrast: bool = False
    ) -> Tensor:
        """The distance at a network with these parameters: summed over classes, or with `contrast` of all together."""
        pairs = self.pairs(batch, generator)
        if contrast:
            return self._together(parameters, list(pairs))
        return torch.stack([self._of_class(parameters, pair) for pair in pairs]).sum()

    def _contrast(self, state: State) -> bool:
        if self.contrast_from is None:
            return False
        age = self.networks.age(state)
        return age.networks >= self.contrast_from or age.matchings >= INNER_WARMUP

    def _of_class(self, parameters: Parameters, pair: ClassPair) -> Tensor:
        recalled = gradient(self.step, pair.items, pair.targets, parameters)
        return distance(recalled, self._real(parameters, pair), self.distance, self.layers)

    def _together(self, parameters: Parameters, pairs: Sequence[ClassPair]) -> Tensor:
        items, targets = (torch.cat([pair[part] for pair in pairs]) for part in (0, 1))
        each = [self._real(parameters, pair) for pair in pairs]
        real = {name: torch.stack([one[name] for one in each]).mean(dim=0) for name in parameters}
        return distance(gradient(self.step, items, targets, parameters), real, self.distance, self.layers)

    def _real(self, parameters: Parameters, pair: ClassPair) -> Parameters:
        with torch.no_grad():
            return gradient(self.step, pair.real, pair.real_targets, parameters)
