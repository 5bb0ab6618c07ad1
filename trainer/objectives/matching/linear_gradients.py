"""Linear gradient matching (LGM, Cazenavette, Torralba and Sitzmann, 2025): pictures for a frozen encoder.

With the features phi of the encoder, a random linear head W and its mean cross-entropy L,

    1 - cos(dL/dW of views of recalled pictures, dL/dW of views of real pictures)

is minimised in the recalled pictures. Features of the real views are computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from recall_server.core.memory import Recalled
from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.matching.random_views import RandomViews
from trainer.objectives.sampler import Sampler


class Targeted(NamedTuple):
    """`features` [n, D], and their `targets` [n, k]."""

    features: Tensor
    targets: Tensor


@final
@dataclass(frozen=True, eq=False)
class LinearGradientMatching(AbstractObjective):
    """`encoder` maps pixels to features. A step compares `views` of each recalled picture with `real_batch` real ones.

    The weights of heads are normal with the standard deviation `deviation`.
    """

    encoder: Callable[[Tensor], Tensor]
    preprocessing: AbstractPreprocessing
    real: Targeted
    random_views: RandomViews
    views: int
    real_batch: int
    deviation: float = 0.01

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        batch = sampler.draw_all(1, generator)
        seen = self.seen(batch.recalled, generator)
        index = torch.randperm(len(self.real.targets), generator=generator)[: self.real_batch]
        shape = self.real.targets.shape[1], self.real.features.shape[1]
        weights = self.deviation * torch.randn(shape, generator=generator).to(seen.features)
        return gradient_distance(weights, seen, Targeted(*(part[index.to(part.device)] for part in self.real)))

    def seen(self, recalled: Recalled, generator: torch.Generator) -> Targeted:
        """The features of `views` random views of every recalled picture."""
        pixels = self.preprocessing.to_pixels(recalled.items.flatten(0, 1))
        targets = recalled.targets.expand(-1, recalled.items.shape[1], -1).flatten(0, 1)
        colour = pixels.expand(-1, 3, -1, -1)
        views = torch.cat([self.random_views(colour, generator) for _ in range(self.views)])
        return Targeted(self.encoder(views), targets.repeat(self.views, 1))


def gradient_distance(weights: Tensor, recalled: Targeted, real: Targeted) -> Tensor:
    """1 - cos between the gradients that both give to a head with these weights [k, D] and a bias of zero."""
    return 1 - cosine_similarity(_gradient(weights, recalled), _gradient(weights, real), dim=0)


def _gradient(weights: Tensor, data: Targeted) -> Tensor:
    """The gradient of the mean cross-entropy for weights and bias, as one vector [k * (D + 1)]."""
    errors = ((data.features @ weights.T).softmax(dim=1) - data.targets) / len(data.targets)
    return torch.cat([(errors.T @ data.features).flatten(), errors.sum(dim=0)])
