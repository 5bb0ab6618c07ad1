"""The same loss for networks whose first layer is dense, at a thirtieth of the arithmetic: in the span of the bases.

Every recalled image is a combination of the K bases, so with B^T = Q R (Q [d, K] orthonormal) it is Q z, with K numbers
z = R a for coefficients a. The gradient of the first layer's weights W [h, d] is a sum of (something) times x^T, so W
never leaves W_0 + P Q^T, and P = W Q moves by exactly the gradient that a network with the K inputs z has for its first
layer. Training on images of d pixels and training on their K coordinates from P_0 = W_0 Q are the same; afterwards
W_T = W_0 + (P_T - P_0) Q^T. MNIST has 784 pixels, and the paper's memories of its streams 24 or 8 bases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.memory import AddressedBases
from recall_server.networks import MLP, Parameters
from trainer.differentiated_step import DifferentiatedStep
from trainer.inner_step import AbstractInnerStep, soft_cross_entropy
from trainer.streams.dense_step import HIDDEN_WEIGHT, DenseStep
from trainer.streams.objective import AbstractStreamObjective
from trainer.unroll import train, unroll


@final
@dataclass(frozen=True)
class SubspaceUnrolled(AbstractStreamObjective):
    """`trainer.objectives.unrolled.Unrolled` of an MLP on the CPU, exactly; see there for the schedule."""

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
        step = reduced_step(self.network, len(memory.bases))
        constants = {"rate": torch.tensor(self.rate), "momentum": torch.tensor(self.momentum)}

        wide = parameters[HIDDEN_WEIGHT]
        narrow = parameters | {HIDDEN_WEIGHT: wide @ basis}
        velocity |= {HIDDEN_WEIGHT: torch.zeros_like(narrow[HIDDEN_WEIGHT])}
        before = length - self.window
        if before:
            with torch.no_grad():
                batches = minibatches(coordinates, index[:before])
                narrow, velocity = train(step, *batches, narrow, velocity, **constants)
                wide = widened(wide, narrow[HIDDEN_WEIGHT], basis)
            # The window starts from this weight as a constant, and only its projection depends on the bases.
            narrow = narrow | {HIDDEN_WEIGHT: wide @ basis}
        batches = minibatches(coordinates, index[before:])
        narrow, _ = unroll(step, *batches, narrow, velocity, **constants)
        trained = narrow | {HIDDEN_WEIGHT: widened(wide, narrow[HIDDEN_WEIGHT], basis)}
        return soft_cross_entropy(self.network.logits(trained, images), targets)


def span(memory: AddressedBases) -> tuple[Tensor, Tensor]:
    """An orthonormal basis [d, K] of all that the memory can recall, and what it does recall, [d_y, r, K] over it."""
    basis, triangular = torch.linalg.qr(memory.enlarged().flatten(1).T)
    return basis, (memory.addressing @ triangular.T).transpose(0, 1)


def widened(wide: Tensor, narrow: Tensor, basis: Tensor) -> Tensor:
    """The weight [h, d] whose part within the span [d, K] is `narrow` [h, K], and elsewhere that of `wide`."""
    return wide + (narrow - wide @ basis) @ basis.T


def reduced_step(network: MLP, inputs: int) -> AbstractInnerStep:
    """The step of the same network with so many inputs."""
    reduced = MLP(
        channels=1, height=1, width=inputs, classes=network.classes, hidden=network.hidden, depth=network.depth
    )
    return DenseStep(reduced) if network.depth == 1 else DifferentiatedStep(reduced, compiled=False)


def draw_rows(length: int, coordinates: Tensor, rows_per_class: int, generator: torch.Generator) -> Tensor:
    """[length, d_y, n] distinct rows of every class for every step; all of them, in order, where there are no more."""
    classes, rows = coordinates.shape[:2]
    if rows_per_class >= rows:
        return torch.arange(rows).expand(length, classes, rows)
    return torch.rand(length, classes, rows, generator=generator).argsort(dim=2)[:, :, :rows_per_class]


def minibatches(coordinates: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """index [T, d_y, n] -> images [T, d_y * n, 1, 1, K] and targets [T, d_y * n, d_y]."""
    steps, classes, drawn = index.shape
    label = torch.arange(classes).view(1, classes, 1).expand_as(index)
    images = coordinates[label, index].reshape(steps, classes * drawn, 1, 1, -1)
    targets = torch.eye(classes, dtype=images.dtype).repeat_interleave(drawn, dim=0)
    return images, targets.expand(steps, *targets.shape)
