"""Training a network for T steps of SGD with momentum, as one differentiable function (design, section 2).

Inputs are the images of all T steps, their targets, and the initial state: parameters, velocity, step size, momentum.
The output is the state after training. Gradients reach every input. It knows nothing of memories.

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

from recall_server.core.networks import Parameters
from trainer.objectives.inner.steps.step import AbstractInnerStep, StepTrace, TrainState


def unroll(step: AbstractInnerStep, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
    """Train for T steps; differentiable in every tensor argument, those of the state included.

    images [T, B, C, H, W], targets [T, B, k]. Returns the state after T steps. The arguments are never written to.
    Memory: T + 1 sets of parameters and the graph of a single step.
    """
    names = tuple(state.parameters)
    flat: tuple[Tensor, ...] = _Unroll.apply(
        step,
        names,
        images,
        targets,
        state.rate,
        state.momentum,
        *state.parameters.values(),
        *(state.velocity[name] for name in names),
    )
    return state.at(*_two(names, flat))


def train(step: AbstractInnerStep, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
    """The same training without a gradient: what comes before the window of a truncated unroll."""
    return step.forward_steps(state, images, targets).state


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
        before = TrainState(*_two(names, flat), rate, momentum)
        trace = step.forward_steps(before, images, targets, keep=(True, any(ctx.needs_input_grad[4:6])))
        ctx.step, ctx.names = step, names
        # What came out is an output: kept on the context it would be a reference cycle.
        ctx.weights, ctx.velocities = trace.weights, trace.velocities
        ctx.save_for_backward(images, targets, rate, momentum, *trace.state.velocity.values())
        return *trace.state.parameters.values(), *trace.state.velocity.values()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *flat: Tensor) -> tuple[Tensor | None, ...]:
        images, targets, rate, momentum, *last = ctx.saved_tensors
        after = TrainState({}, dict(zip(ctx.names, last, strict=True)), rate, momentum)
        lam, mu = _two(ctx.names, flat)
        trace = StepTrace(after, ctx.weights, ctx.velocities)
        found = ctx.step.backward_steps(trace, images, targets, lam, mu)
        gradients = (*found.parameters.values(), *found.velocity.values())
        return None, None, found.images, found.targets, found.rate, found.momentum, *gradients


def _two(names: tuple[str, ...], flat: tuple[Tensor, ...]) -> tuple[Parameters, Parameters]:
    """Two sets of parameters, one behind the other, by name."""
    first, second = flat[: len(names)], flat[len(names) :]
    return dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))
