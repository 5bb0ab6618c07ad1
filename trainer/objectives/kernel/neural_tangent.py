"""The neural tangent kernel of fully connected networks, in closed form (Jacot et al., 2018; Nguyen et al., 2021).

With weight variance w and bias variance b, for inputs x, y of d numbers,

    S = w <x, y> / d + b,    T = S,

and for each hidden layer of rectifiers, with cos a = S(x, y) / sqrt(S(x, x) S(y, y)),

    S <- w sqrt(S(x, x) S(y, y)) (sin a + (pi - a) cos a) / (2 pi) + b,    T <- S + w T (pi - a) / (2 pi)

T is the kernel. It is what KIP regresses with for its fully connected networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from trainer.objectives.base import State
from trainer.objectives.kernel.base import AbstractKernel, Products


@final
@dataclass(frozen=True)
class NeuralTangent(AbstractKernel):
    """`depth` hidden layers. Items are flattened, so that features of an encoder are as good as images."""

    depth: int = 1
    weight_variance: float = 2.0
    bias_variance: float = 0.01

    def products(self, recalled: Tensor, real: Tensor, state: State, generator: torch.Generator) -> Products:
        support = recalled.flatten(1)
        return Products(self.between(support.double(), support.double()), self.between(real.flatten(1), support))

    def between(self, left: Tensor, right: Tensor) -> Tensor:
        """The kernel [m, n] of inputs [m, d] and [n, d]."""
        numbers = left.shape[1]
        covariance = self.weight_variance * (left @ right.T) / numbers + self.bias_variance
        tangent = covariance
        variances = [self.weight_variance * x.square().sum(dim=1) / numbers + self.bias_variance for x in (left, right)]
        for _ in range(self.depth):
            scale = (variances[0].unsqueeze(1) * variances[1]).sqrt()
            sine, angle, cosine = _angles(covariance / scale)
            covariance = self.weight_variance * scale * (sine + (math.pi - angle) * cosine) / (2 * math.pi)
            covariance = covariance + self.bias_variance
            tangent = covariance + self.weight_variance * tangent * (math.pi - angle) / (2 * math.pi)
            variances = [self.weight_variance * each / 2 + self.bias_variance for each in variances]
        return tangent


def _angles(cosine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(sine, angle, cosine) of angles, which are 0 without a gradient where the cosine is 1 up to rounding.

    An angle between an item and itself has no derivative, and does not change.
    """
    nearest = 1 - 8 * torch.finfo(cosine.dtype).eps
    inside = cosine.clamp(-nearest, nearest)
    same = cosine >= nearest
    angle = torch.where(same, torch.zeros_like(cosine), inside.arccos())
    sine = torch.where(same, torch.zeros_like(cosine), (1 - inside * inside).sqrt())
    return sine, angle, torch.where(same, torch.ones_like(cosine), inside)
