"""The unrolled loss of an MLP, computed in the span of the bases with a thirtieth of the arithmetic.

Every recalled image is a combination of the K bases, so with B^T = Q R (Q [d, K] orthonormal) it is x = Q z, where
z = R a are K numbers for coefficients a. The gradient of the first layer's weights W [h, d] is a sum of vectors times
x^T, so W stays in W_0 + P Q^T, and P = W Q follows exactly the gradient of the first layer of a network with the K
inputs z. Training on images of d pixels and training on their K coordinates from P_0 = W_0 Q are therefore the same.
Afterwards W_T = W_0 + (P_T - P_0) Q^T, so the loss on real images x needs only W_0 x, a constant, and Q^T x. MNIST has
784 pixels, and the paper's memories for its streams have 24 or 8 bases.

If the window begins late, the weights learned before it are held constant in coordinates: the weights W_0 + L Q^T and
their velocity v Q^T, with constant L and v, still rotate with the bases, as they would if the past were differentiated.
Holding them constant in pixels instead loses 1 to 1.5 points (docs/tried.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from recall_server.core.memory import BASES, LINEAR, AddressedBases
from recall_server.core.networks import MLP, Parameters
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.inner.narrow_training import HIDDEN_WEIGHT, narrow_training, narrowed
from trainer.objectives.inner.steps.step import soft_cross_entropy
from trainer.objectives.sampler import Sampler


@final
@dataclass(frozen=True)
class SubspaceUnrolled(AbstractObjective):
    """`trainer.objectives.unrolled.unrolled.Unrolled` for an MLP on the CPU, with the same losses and schedule.

    Without a window the gradients are the same too; with one they follow the bases further into the past.
    """

    network: MLP
    steps: int
    window: int
    rate: float
    momentum: float
    rows_per_class: int
    real_batch: int = 256
    requires: ClassVar[frozenset[str]] = frozenset({BASES, LINEAR})

    def __post_init__(self) -> None:
        if not 1 <= self.window <= self.steps:
            raise ValueError(f"a window of {self.window} does not lie within 1..{self.steps} inner steps")

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        classes = sampler.draw_classes(0, generator)
        _, items, targets = sampler.real_batch(classes, max(1, self.real_batch // len(classes)), generator)
        assert isinstance(sampler.memory, AddressedBases), "no other memory has bases"
        return self.score(sampler.memory, items.cpu(), targets.cpu(), generator).to(items.device)

    def score(self, memory: AddressedBases, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """The loss on real images [N, C, H, W] with targets [N, k] of a network trained on the recalled ones."""
        length = int(torch.randint(self.window, self.steps + 1, (), generator=generator))
        parameters = {name: value.to(images) for name, value in self.network.initialise(generator).items()}
        velocity: Parameters = {name: torch.zeros_like(value) for name, value in parameters.items()}
        basis, coordinates = span(memory)
        index = draw_rows(length, coordinates, self.rows_per_class, generator)
        training = narrow_training(self.network, len(memory.bases), rate=self.rate, momentum=self.momentum)

        wide = parameters[HIDDEN_WEIGHT]
        first = wide @ basis
        narrow = parameters | {HIDDEN_WEIGHT: first}
        velocity |= {HIDDEN_WEIGHT: torch.zeros_like(first)}
        before = length - self.window
        if before:
            with torch.no_grad():
                past, velocity = training.train(coordinates, index[:before], (narrow, velocity))
                learned = past[HIDDEN_WEIGHT] - first
            narrow = past | {HIDDEN_WEIGHT: first + learned}
        narrow, _ = training.train(coordinates, index[before:], (narrow, velocity))
        flat = images.flatten(1)
        inputs = torch.cat([flat @ basis, flat @ wide.T], dim=1)  # [N, K + h]
        same = torch.eye(len(wide), dtype=wide.dtype)
        trained = narrow | {HIDDEN_WEIGHT: torch.cat([narrow[HIDDEN_WEIGHT] - first, same], dim=1)}
        return soft_cross_entropy(narrowed(self.network, inputs.shape[1]).logits(trained, inputs), targets)


def span(memory: AddressedBases) -> tuple[Tensor, Tensor]:
    """An orthonormal basis [d, K] of the span of the bases, and the coordinates [d_y, r, K] of the recalled images."""
    basis, triangular = torch.linalg.qr(memory.span().flatten(1).T.cpu())
    return basis, (memory.addressing.cpu() @ triangular.T).transpose(0, 1)


def draw_rows(length: int, coordinates: Tensor, rows_per_class: int, generator: torch.Generator) -> Tensor:
    """Distinct random rows [length, d_y, n] of every class for every step; all rows, in order, if there are no more."""
    classes, rows = coordinates.shape[:2]
    if rows_per_class >= rows:
        return torch.arange(rows).expand(length, classes, rows)
    return torch.rand(length, classes, rows, generator=generator).argsort(dim=2)[:, :, :rows_per_class]
