"""Adversarial pictures: small changes of pictures by which a network errs (Madry et al., ICLR 2018).

The outer loss of an unrolled objective uses them to train memories for robust networks, and evaluation measures with
them how robust networks are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.preprocessing import AbstractPreprocessing

Logits = Callable[[Tensor], Tensor]  # of pictures [N, C, H, W] to [N, k], differentiable in the pictures

REACH: Final = 2.5  # epsilons that all steps of an attack go together, so that any point of the box can be reached


class AbstractAttack(ABC):
    """Changes pictures [N, C, H, W] with target distributions [N, k] to the disadvantage of a network."""

    @abstractmethod
    def __call__(self, logits: Logits, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """The changed pictures, detached. Random numbers come from the generator, which lives on the CPU."""

    def in_space(self, preprocessing: AbstractPreprocessing) -> AbstractAttack:
        """This attack on pixels, for pictures and networks in the model space of a preprocessing."""
        return _InModelSpace(self, preprocessing)


@final
@dataclass(frozen=True)
class NoAttack(AbstractAttack):
    """Pictures stay as they are."""

    def __call__(self, logits: Logits, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        return images

    def in_space(self, preprocessing: AbstractPreprocessing) -> AbstractAttack:
        return self


@final
@dataclass(frozen=True)
class ProjectedGradient(AbstractAttack):
    """PGD on pictures in pixel space: `steps` along the sign of the gradient of the cross-entropy, from a random place.

    No pixel changes by more than `epsilon`, and none leaves 0..1. (A picture that was outside, as rotated ones in
    whitened space are, may stay where it was.)
    """

    epsilon: float
    steps: int

    def __call__(self, logits: Logits, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        low = torch.maximum(images - self.epsilon, images.clamp(max=0))
        high = torch.minimum(images + self.epsilon, images.clamp(min=1))
        noise = torch.rand(images.shape, generator=generator).to(images)
        found = (images + self.epsilon * (2 * noise - 1)).clamp(low, high)
        for _ in range(self.steps):
            direction = _gradient(logits, found, targets).sign()
            found = (found + REACH * self.epsilon / self.steps * direction).clamp(low, high)
        return found


@final
@dataclass(frozen=True, eq=False)
class _InModelSpace(AbstractAttack):
    attack: AbstractAttack
    preprocessing: AbstractPreprocessing

    def __call__(self, logits: Logits, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        def of_pixels(pixels: Tensor) -> Tensor:
            return logits(self.preprocessing.to_model(pixels))

        pixels = self.preprocessing.to_pixels(images)
        return self.preprocessing.to_model(self.attack(of_pixels, pixels, targets, generator))


def _gradient(logits: Logits, images: Tensor, targets: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        (found,) = torch.autograd.grad(cross_entropy(logits(leaf), targets, reduction="sum"), leaf)
    return found
