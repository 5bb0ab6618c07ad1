"""The same loss for networks whose first layer is dense, at a thirtieth of the arithmetic: in the span of the bases.

Every recalled image is a combination of the K bases, so with B^T = Q R (Q [d, K] orthonormal) it is Q z, with K numbers
z = R a for coefficients a. The gradient of the first layer's weights W [h, d] is a sum of (something) times x^T, so W
never leaves W_0 + P Q^T, and P = W Q moves by exactly the gradient that a network with the K inputs z has for its first
layer. Training on images of d pixels and training on their K coordinates from P_0 = W_0 Q are the same; afterwards
W_T = W_0 + (P_T - P_0) Q^T, so that of real images x the loss needs W_0 x, a constant, and Q^T x. MNIST has 784 pixels,
and the paper's memories of its streams 24 or 8 bases.

Where a window begins late, what was learned before is a constant. It is one in coordinates: the weights W_0 + L Q^T and
their velocity v Q^T, with L and v as they are, still turn with the bases, as they would have if the past had been
differentiated as well. Held constant in pixels instead, 1 to 1.5 points are lost (docs/tried.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases
from recall_server.core.networks import MLP, Parameters
from trainer.objectives.inner.step import soft_cross_entropy
from trainer.streams.learners.narrow_training import HIDDEN_WEIGHT, narrow_training, narrowed
from trainer.streams.learners.objective import AbstractStreamObjective


@final
@dataclass(frozen=True)
class SubspaceUnrolled(AbstractStreamObjective):
    """`trainer.objectives.unrolled.Unrolled` of an MLP on the CPU, with the same losses; see there for the schedule.

    Without a window its gradients are the same too; with one they follow the bases further into the past.
    """

    network: MLP
    steps: int
    window: int
    rate: float
    momentum: float
    rows_per_class: int

    def __post_init__(self) -> None:
        if not 1 <= self.window <= self.steps:
            raise ValueError(f"a window of {self.window} does not lie within 1..{self.steps} inner steps")

    def loss(self, memory: AddressedBases, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
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
                past, velocity = training.train(coordinates, index[:before], narrow, velocity)
                learned = past[HIDDEN_WEIGHT] - first
            narrow = past | {HIDDEN_WEIGHT: first + learned}
        narrow = training.unroll(coordinates, index[before:], narrow, velocity)
        flat = images.flatten(1)
        inputs = torch.cat([flat @ basis, flat @ wide.T], dim=1)  # [N, K + h]
        same = torch.eye(len(wide), dtype=wide.dtype)
        trained = narrow | {HIDDEN_WEIGHT: torch.cat([narrow[HIDDEN_WEIGHT] - first, same], dim=1)}
        return soft_cross_entropy(narrowed(self.network, inputs.shape[1]).logits(trained, inputs), targets)


def span(memory: AddressedBases) -> tuple[Tensor, Tensor]:
    """An orthonormal basis [d, K] of all that the memory can recall, and what it does recall, [d_y, r, K] over it."""
    basis, triangular = torch.linalg.qr(memory.span().flatten(1).T)
    return basis, (memory.addressing @ triangular.T).transpose(0, 1)


def draw_rows(length: int, coordinates: Tensor, rows_per_class: int, generator: torch.Generator) -> Tensor:
    """[length, d_y, n] distinct rows of every class for every step; all of them, in order, where there are no more."""
    classes, rows = coordinates.shape[:2]
    if rows_per_class >= rows:
        return torch.arange(rows).expand(length, classes, rows)
    return torch.rand(length, classes, rows, generator=generator).argsort(dim=2)[:, :, :rows_per_class]
