"""Training of a linear head on a few vectors, and the gradient of its loss on real features through all steps.

A linear head that begins at zero stays in the span of its training data: W = A^T X, and b is the sum of A. All steps
are therefore computed on the n x n matrix K of products of the vectors X~ = [X, 1], with multipliers A [n, k] in place
of the D x k weights:

    R = (softmax(K A) - Y) / n        M <- momentum * M + R        A <- A - rate * M

This is the schedule of `Retraining` for the network `linear`, with all rows in every step. The reverse of a step is
that of `trainer.objectives` (Maclaurin et al., 2015); it costs one more product with K.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Trained(NamedTuple):
    """A head with `weights` [D, k] and `bias` [k]. `steps` holds (A, softmax, M) of each step, for the reverse."""

    weights: Tensor
    bias: Tensor
    multipliers: Tensor
    products: Tensor
    steps: list[tuple[Tensor, Tensor, Tensor]]

    def logits(self, features: Tensor) -> Tensor:
        return features @ self.weights + self.bias


class Gradient(NamedTuple):
    vectors: Tensor
    rate: Tensor


def train_head(vectors: Tensor, targets: Tensor, rate: float, *, steps: int, momentum: float) -> Trained:
    """Train on `vectors` [n, D] with target distributions [n, k]."""
    products = vectors @ vectors.T + 1
    multipliers, velocity = torch.zeros_like(targets), torch.zeros_like(targets)
    trace = []
    for _ in range(steps):
        shares = (products @ multipliers).softmax(dim=1)
        velocity = momentum * velocity + (shares - targets) / len(targets)
        trace.append((multipliers, shares, velocity))
        multipliers = multipliers - rate * velocity
    return Trained(vectors.T @ multipliers, multipliers.sum(dim=0), multipliers, products, trace)


def gradient(
    vectors: Tensor, trained: Trained, rate: float, *, momentum: float, weights: Tensor, bias: Tensor
) -> Gradient:
    """Gradients of a loss for the vectors and the rate, from its gradients for `weights` [D, k] and `bias` [k]."""
    adjoint = vectors @ weights + bias  # for the multipliers
    adjoint_velocity = torch.zeros_like(adjoint)
    of_products, of_rate = torch.zeros_like(trained.products), adjoint.new_zeros(())
    for multipliers, shares, velocity in reversed(trained.steps):
        of_rate = of_rate - (adjoint * velocity).sum()
        adjoint_velocity = adjoint_velocity - rate * adjoint
        through = shares * (adjoint_velocity - (shares * adjoint_velocity).sum(dim=1, keepdim=True)) / len(shares)
        of_products.addmm_(through, multipliers.T)
        adjoint = adjoint + trained.products @ through
        adjoint_velocity = momentum * adjoint_velocity
    return Gradient(trained.multipliers @ weights.T + (of_products + of_products.T) @ vectors, of_rate)
