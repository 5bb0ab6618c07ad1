"""Training a network for T steps of SGD with momentum, as one differentiable function (design, section 2).

In go the images of all T steps, their targets, the initial parameters and velocity, the step size and the momentum;
out come the trained parameters and velocity. Gradients reach every input. It knows nothing of memories.

With g the gradient of the loss, one step is  m' = beta m + g(theta, x),  theta' = theta - alpha m'.  Only theta of each
step is kept (and m too, where a gradient for beta is asked for). The reverse pass carries lambda = dL/dtheta' and
mu = dL/dm', and rebuilds one step's graph at a time (Maclaurin et al., 2015; paper, section 4):

    mu <- mu - alpha lambda;  dL/dx = (dg/dx)^T mu;  lambda <- lambda + (dg/dtheta)^T mu;  mu <- beta mu
    dL/dalpha = - sum <m', lambda>;  dL/dbeta = sum <m, mu>
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recall_server.networks import Parameters
from trainer.inner_step import AbstractInnerStep


def unroll(
    step: AbstractInnerStep,
    images: Tensor,
    targets: Tensor,
    parameters: Parameters,
    velocity: Parameters,
    *,
    rate: Tensor,
    momentum: Tensor,
) -> tuple[Parameters, Parameters]:
    """Train for T steps; differentiable in every tensor argument.

    images [T, B, C, H, W], targets [T, B, k], rate and momentum scalars. Returns (parameters, velocity) after T steps.
    The arguments are never written to. Memory: T + 1 sets of parameters and the graph of a single step.
    """
    names = tuple(parameters)
    flat: tuple[Tensor, ...] = _Unroll.apply(
        step, names, images, targets, rate, momentum, *parameters.values(), *(velocity[name] for name in names)
    )
    return dict(zip(names, flat[: len(names)], strict=True)), dict(zip(names, flat[len(names) :], strict=True))


def train(
    step: AbstractInnerStep,
    images: Tensor,
    targets: Tensor,
    parameters: Parameters,
    velocity: Parameters,
    *,
    rate: Tensor,
    momentum: Tensor,
) -> tuple[Parameters, Parameters]:
    """The same training without a gradient: what comes before the window of a truncated unroll."""
    with torch.no_grad():
        for batch, target in zip(images, targets, strict=True):
            parameters, velocity = step.forward(parameters, velocity, batch, target, rate=rate, momentum=momentum)
    return parameters, velocity


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917, PLR0913  (autograd passes every argument by position)
        ctx: Any,
        step: AbstractInnerStep,
        names: tuple[str, ...],
        images: Tensor,
        targets: Tensor,
        rate: Tensor,
        momentum: Tensor,
        *flat: Tensor,
    ) -> tuple[Tensor, ...]:
        count = len(names)
        parameters = dict(zip(names, flat[:count], strict=True))
        velocity = dict(zip(names, flat[count:], strict=True))
        ctx.needs_rate, ctx.needs_momentum = ctx.needs_input_grad[4:6]
        weights, velocities = [parameters], [velocity]  # theta_0 .. theta_T, and m_0 .. m_T where they are needed
        for batch, target in zip(images, targets, strict=True):
            parameters, velocity = step.forward(parameters, velocity, batch, target, rate=rate, momentum=momentum)
            weights.append(parameters)
            if ctx.needs_rate or ctx.needs_momentum:
                velocities.append(velocity)
        ctx.step, ctx.names = step, names
        # The last velocity is an output: kept on the context it would be a reference cycle.
        ctx.weights, ctx.velocities = weights[:-1], velocities[: len(images)]
        ctx.save_for_backward(images, targets, rate, momentum, *velocity.values())
        return *parameters.values(), *velocity.values()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *flat: Tensor) -> tuple[Tensor | None, ...]:
        images, targets, rate, momentum, *last = ctx.saved_tensors
        names: tuple[str, ...] = ctx.names
        velocities = [*ctx.velocities, dict(zip(names, last, strict=True))]
        lam = dict(zip(names, flat[: len(names)], strict=True))
        mu = dict(zip(names, flat[len(names) :], strict=True))
        for_images, for_targets = torch.empty_like(images), torch.empty_like(targets)
        for_rate, for_momentum = torch.zeros_like(rate), torch.zeros_like(momentum)
        for t in reversed(range(len(images))):
            if ctx.needs_rate:
                for_rate -= _inner_product(velocities[t + 1], lam)
            mu = {name: mu[name] - rate * lam[name] for name in names}
            if ctx.needs_momentum:
                for_momentum += _inner_product(velocities[t], mu)
            for_images[t], for_targets[t], product = ctx.step.reverse(ctx.weights[t], images[t], targets[t], mu)
            lam = {name: lam[name] + product[name] for name in names}
            mu = {name: momentum * mu[name] for name in names}
        return None, None, for_images, for_targets, for_rate, for_momentum, *lam.values(), *mu.values()


def _inner_product(left: Parameters, right: Parameters) -> Tensor:
    return torch.stack([(left[name] * right[name]).sum() for name in left]).sum()
