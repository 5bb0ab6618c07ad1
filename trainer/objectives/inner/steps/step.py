"""One step of inner training and its reverse: what an unroll is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from recall_server.core.networks import AbstractNetwork, Parameters


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of [N, k] logits to [N, k] target distributions."""
    return -(targets * log_softmax(logits, dim=1)).sum(dim=1).mean()


def gradient_along(logits: Tensor, logits_dot: Tensor, targets: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of the part that these images have in the mean loss over `count`, along a direction of logits [N, k].

    Returns the gradient for the logits, its derivative along the direction, and the gradient for the targets of the
    loss's derivative along the direction.
    """
    probabilities = logits.softmax(dim=1)
    centred = logits_dot - (probabilities * logits_dot).sum(dim=1, keepdim=True)
    mass = targets.sum(dim=1, keepdim=True)
    return (probabilities * mass - targets) / count, probabilities * centred * mass / count, -centred / count


class TrainState(NamedTuple):
    """SGD with momentum between two steps: the network's parameters, their velocity, and the scalars of the steps."""

    parameters: Parameters
    velocity: Parameters
    rate: Tensor
    momentum: Tensor

    def at(self, parameters: Parameters, velocity: Parameters) -> TrainState:
        """The state with these tensors and the same scalars."""
        return TrainState(parameters, velocity, self.rate, self.momentum)


class StepTrace(NamedTuple):
    """The state after T steps, and weights and velocities before each step, in the step's own form."""

    state: TrainState
    weights: Sequence[Any]
    velocities: Sequence[Any]


class Reversed(NamedTuple):
    """Gradients for all inputs of T steps; those for rate and momentum are zero where no velocities were kept."""

    images: Tensor
    targets: Tensor
    rate: Tensor
    momentum: Tensor
    parameters: Parameters
    velocity: Parameters


class AbstractInnerStep(ABC):
    """One step of SGD with momentum on the mean soft cross-entropy of a network, and the reverse of that step.

    g is the gradient of that loss for the parameters. A step never writes to its arguments. `forward` and `reverse` are
    not differentiable; `trainer.objectives.inner.unroll` makes a differentiable function of them.
    """

    network: AbstractNetwork

    @abstractmethod
    def forward(self, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        """The state after a step on a minibatch [N, C, H, W] with target distributions [N, k]."""

    @abstractmethod
    def reverse(
        self, parameters: Parameters, images: Tensor, targets: Tensor, mu: Parameters
    ) -> tuple[Tensor, Tensor, Parameters]:
        """(dg/dimages^T mu, dg/dtargets^T mu, dg/dparameters^T mu)."""

    @abstractmethod
    def evaluate(self, parameters: Parameters, images: Tensor, targets: Tensor) -> Tensor:
        """The loss itself, a scalar that is once differentiable for the parameters."""

    def forward_steps(
        self, state: TrainState, images: Tensor, targets: Tensor, keep: tuple[bool, bool] = (False, False)
    ) -> StepTrace:
        """T steps, on images [T, B, C, H, W]; `keep` says whether parameters and velocity before each are kept."""
        weights, velocities = [], []
        with torch.no_grad():
            for batch, target in zip(images, targets, strict=True):
                if keep[0]:
                    weights.append(state.parameters)
                if keep[1]:
                    velocities.append(state.velocity)
                state = self.forward(state, batch, target)
        return StepTrace(state, weights, velocities)

    def backward_steps(
        self, trace: StepTrace, images: Tensor, targets: Tensor, lam: Parameters, mu: Parameters
    ) -> Reversed:
        """The reverse of T steps (the recursion of `trainer.objectives.inner.unroll`), given outputs' gradients."""
        names, rate, momentum = list(lam), trace.state.rate, trace.state.momentum
        for_images, for_targets = torch.empty_like(images), torch.empty_like(targets)
        for_rate, for_momentum = torch.zeros_like(rate), torch.zeros_like(momentum)
        lams, mus = list(lam.values()), [mu[name] for name in names]
        after = trace.state.velocity
        for t in reversed(range(len(images))):
            if trace.velocities:
                for_rate -= _inner_product((after[name] for name in names), lams)
                after = trace.velocities[t]
            mus = list(torch._foreach_sub(mus, torch._foreach_mul(lams, rate)))
            if trace.velocities:
                for_momentum += _inner_product((after[name] for name in names), mus)
            direction = dict(zip(names, mus, strict=True))
            for_images[t], for_targets[t], product = self.reverse(trace.weights[t], images[t], targets[t], direction)
            lams = list(torch._foreach_add(lams, [product[name] for name in names]))
            mus = list(torch._foreach_mul(mus, momentum))
        lam, mu = dict(zip(names, lams, strict=True)), dict(zip(names, mus, strict=True))
        return Reversed(for_images, for_targets, for_rate, for_momentum, lam, mu)


def _inner_product(left: Iterable[Tensor], right: Iterable[Tensor]) -> Tensor:
    return torch.stack([(one * other).sum() for one, other in zip(left, right, strict=True)]).sum()
