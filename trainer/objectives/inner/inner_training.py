"""The training of an unrolled objective's network: its optimiser, and what of the training is differentiated.

Each training is composed of inner steps. `train` takes steps without a gradient. `unroll` takes steps that can be
differentiated in the images, the targets and the step size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recall_server.core.networks import Parameters
from trainer.objectives.inner.steps.step import AbstractInnerStep, TrainState
from trainer.objectives.inner.unroll import train, unroll

Take = Callable[[AbstractInnerStep, TrainState, Tensor, Tensor], TrainState]  # some steps

FIRST_DECAY, SECOND_DECAY = 0.9, 0.999  # of Adam's moments (Kingma and Ba, 2015)
EPSILON = 1e-6  # inside Adam's root, squared: a root has no derivative at zero, where biases before a norm stay


class AbstractInnerTraining(ABC):
    """Steps on images [T, B, C, H, W] with targets [T, B, k]. A state has `parameters` and what the optimiser keeps."""

    @abstractmethod
    def begin(self, parameters: Parameters, rate: Tensor) -> Any:
        """The state before the first step."""

    @abstractmethod
    def train(self, step: AbstractInnerStep, state: Any, images: Tensor, targets: Tensor) -> Any:
        """The state after the steps, without a gradient."""

    @abstractmethod
    def unroll(self, step: AbstractInnerStep, state: Any, images: Tensor, targets: Tensor) -> Any:
        """The state after the steps, whose parameters are differentiable in images, targets and rate."""


@final
@dataclass(frozen=True)
class Momentum(AbstractInnerTraining):
    """SGD with heavy-ball momentum; 0 is plain SGD.

    With the `gradient` "full", the whole training is differentiated. With "forward", each step's velocity is a constant
    for the next step, so that gradients pass from step to step through the weights only (paper, appendix B.1).
    """

    momentum: float
    gradient: Literal["full", "forward"] = "full"

    def begin(self, parameters: Parameters, rate: Tensor) -> TrainState:
        still = {name: torch.zeros_like(value) for name, value in parameters.items()}
        return TrainState(parameters, still, rate, rate.new_tensor(self.momentum))

    def train(self, step: AbstractInnerStep, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        return train(step, state, images, targets)

    def unroll(self, step: AbstractInnerStep, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        if self.gradient == "full":
            return unroll(step, state, images, targets)
        for batch, target in zip(torch.split(images, 1), torch.split(targets, 1), strict=True):
            state = unroll(step, state, batch, target)
            state = state._replace(velocity={name: value.detach() for name, value in state.velocity.items()})
        return state


@final
@dataclass(frozen=True)
class StepSizes(AbstractInnerTraining):
    """SGD with momentum whose steps have sizes of their own: the rate of a state is a vector of those to come."""

    momentum: float

    def begin(self, parameters: Parameters, rate: Tensor) -> TrainState:
        return Momentum(self.momentum).begin(parameters, rate)

    def train(self, step: AbstractInnerStep, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        return self._each(train, step, state, images, targets)

    def unroll(self, step: AbstractInnerStep, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        return self._each(unroll, step, state, images, targets)

    @staticmethod
    def _each(  # noqa: PLR0917
        take: Take, step: AbstractInnerStep, state: TrainState, images: Tensor, targets: Tensor
    ) -> TrainState:
        for t in range(len(images)):
            after = take(step, state._replace(rate=state.rate[0]), images[t : t + 1], targets[t : t + 1])
            state = after._replace(rate=state.rate[1:])
        return state


@final
@dataclass(frozen=True)
class ConstantWeights(AbstractInnerTraining):
    """SGD without momentum, where the weights of every step are constants for the gradient (TESLA, Cui et al., 2023).

    The weights after all steps are those before, minus the rate times the sum of the gradients. Each of these depends
    on its own minibatch alone: no step is differentiated through another, which is not the gradient of what happens.
    """

    def begin(self, parameters: Parameters, rate: Tensor) -> TrainState:
        return Momentum(0.0).begin(parameters, rate)

    def train(self, step: AbstractInnerStep, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        return train(step, state, images, targets)

    def unroll(self, step: AbstractInnerStep, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        weights = {name: value.detach() for name, value in state.parameters.items()}
        total = {name: torch.zeros_like(value) for name, value in weights.items()}
        rate = state.rate.detach()
        for batch, target in zip(images.unbind(), targets.unbind(), strict=True):
            found = gradient(step, batch, target, weights)
            total = {name: total[name] + value for name, value in found.items()}
            weights = {name: value - rate * found[name].detach() for name, value in weights.items()}
        moved = {name: value - state.rate * total[name] for name, value in state.parameters.items()}
        return state.at(moved, total)


class AdamState(NamedTuple):
    """What Adam hands on: parameters, step size, number of steps, and decaying means of gradients and their squares."""

    parameters: Parameters
    rate: Tensor
    steps: int
    first: Parameters
    second: Parameters


@final
@dataclass(frozen=True)
class AdamTraining(AbstractInnerTraining):
    """Adam, as RaT-BPTT trains (Feng et al., 2024); the paper found it no better, and to want rates near 1e-4.

    Differentiated by ordinary autograd around the gradient of each step, so that memory grows by some sets of weights
    for every step, and not by one as with momentum.
    """

    def begin(self, parameters: Parameters, rate: Tensor) -> AdamState:
        zeros = {name: torch.zeros_like(value) for name, value in parameters.items()}
        return AdamState(parameters, rate, 0, zeros, zeros)

    def train(self, step: AbstractInnerStep, state: AdamState, images: Tensor, targets: Tensor) -> AdamState:
        with torch.no_grad():
            return self.unroll(step, state, images, targets)

    def unroll(self, step: AbstractInnerStep, state: AdamState, images: Tensor, targets: Tensor) -> AdamState:
        parameters, rate, count, first, second = state
        for batch, target in zip(images.unbind(), targets.unbind(), strict=True):
            gradients = gradient(step, batch, target, parameters)
            count += 1
            first = {name: FIRST_DECAY * first[name] + (1 - FIRST_DECAY) * g for name, g in gradients.items()}
            second = {name: SECOND_DECAY * second[name] + (1 - SECOND_DECAY) * g * g for name, g in gradients.items()}
            scale = rate / (1 - FIRST_DECAY**count)
            for_second = 1 / (1 - SECOND_DECAY**count)
            parameters = {
                name: value - scale * first[name] / (for_second * second[name] + EPSILON**2).sqrt()
                for name, value in parameters.items()
            }
        return AdamState(parameters, rate, count, first, second)


def gradient(step: AbstractInnerStep, images: Tensor, targets: Tensor, parameters: Parameters) -> Parameters:
    """g, the gradient of the minibatch's loss for the parameters; once differentiable in all three arguments."""
    names = tuple(parameters)
    values: tuple[Tensor, ...] = _Gradient.apply(step, names, images, targets, *parameters.values())
    return dict(zip(names, values, strict=True))


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917  (autograd passes every argument by position)
        ctx: Any, step: AbstractInnerStep, names: tuple[str, ...], images: Tensor, targets: Tensor, *flat: Tensor
    ) -> tuple[Tensor, ...]:
        parameters = dict(zip(names, flat, strict=True))
        nothing = {name: torch.zeros_like(value) for name, value in parameters.items()}
        still = images.new_zeros(())
        after = step.forward(TrainState(parameters, nothing, still, still), images, targets)
        ctx.step, ctx.names = step, names
        ctx.save_for_backward(images, targets, *flat)
        return tuple(after.velocity[name] for name in names)  # from rest, the first velocity is the gradient

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *flat: Tensor) -> tuple[Tensor | None, ...]:
        images, targets, *values = ctx.saved_tensors
        parameters, mu = dict(zip(ctx.names, values, strict=True)), dict(zip(ctx.names, flat, strict=True))
        for_images, for_targets, product = ctx.step.reverse(parameters, images, targets, mu)
        return None, None, for_images, for_targets, *(product[name] for name in ctx.names)
