"""Trains an MLP on the coordinates of recalled images: step by step for any depth, or all steps at once in C++."""

from __future__ import annotations

import ctypes
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from recall_server.core.networks import MLP, Parameters
from recall_server.core.networks.kernels.calls import functions, pointers, sizes
from recall_server.core.networks.kernels.compiled import compiled
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep
from trainer.objectives.inner.steps.step import TrainState
from trainer.objectives.inner.unroll import unroll

HIDDEN_WEIGHT, HIDDEN_BIAS = "layer0.weight", "layer0.bias"
WEIGHT, BIAS = "classifier.weight", "classifier.bias"
PRECISIONS = (torch.float32, torch.float64)
VECTOR = 64  # bytes; rows are padded to whole vectors

Moving = tuple[Parameters, Parameters]  # a network's parameters and their velocity
Kernels = dict[str, dict[torch.dtype, Any]]


@dataclass(frozen=True, kw_only=True)
class AbstractNarrowTraining(ABC):
    """SGD with `momentum` at `rate` on coordinates [d_y, r, K], labelled by their class.

    `index` [T, d_y, n] has the rows of each class in the minibatch of each step. Arguments are not modified.
    """

    rate: float
    momentum: float

    @abstractmethod
    def train(self, coordinates: Tensor, index: Tensor, start: Moving) -> Moving:
        """Parameters and velocity after T steps; the parameters are differentiable in all that are given."""


def narrow_training(network: MLP, inputs: int, *, rate: float, momentum: float) -> AbstractNarrowTraining:
    """The training of the network with `inputs` inputs: in C++ for one hidden layer, if that can be compiled."""
    native = native_dense() if network.depth == 1 else None
    if native is not None:
        return NativeTraining(native, rate=rate, momentum=momentum)
    step = DifferentiatedStep(narrowed(network, inputs), compiled=False)
    return StepwiseTraining(step, rate=rate, momentum=momentum)


def narrowed(network: MLP, inputs: int) -> MLP:
    """The same network with `inputs` numbers as its input instead of pictures."""
    return MLP(channels=1, height=1, width=inputs, classes=network.classes, hidden=network.hidden, depth=network.depth)


@final
@dataclass(frozen=True)
class StepwiseTraining(AbstractNarrowTraining):
    """Training by one differentiable step after another."""

    step: DifferentiatedStep

    def train(self, coordinates: Tensor, index: Tensor, start: Moving) -> Moving:
        (steps, classes, drawn), targets = index.shape, _one_hot(coordinates, index.shape[2])
        label = torch.arange(classes).view(1, classes, 1).expand_as(index)
        images = coordinates[label, index].reshape(steps, classes * drawn, 1, 1, -1)
        state = TrainState(*start, torch.tensor(self.rate), torch.tensor(self.momentum))
        after = unroll(self.step, state, images, targets.expand(steps, *targets.shape))
        return after.parameters, after.velocity


@functools.cache
def native_dense() -> Kernels | None:
    """The compiled functions of `dense.cpp`; None, with the reason in the log, if they cannot be compiled."""
    library = compiled(Path(__file__).parent / "kernels" / "dense.cpp")
    return None if library is None else {name: functions(library, name, PRECISIONS) for name in ("train", "reverse")}


@final
@dataclass(frozen=True)
class NativeTraining(AbstractNarrowTraining):
    """Training of a network with one hidden layer, entirely in C++, in float32 or float64."""

    kernels: Kernels

    def train(self, coordinates: Tensor, index: Tensor, start: Moving) -> Moving:
        (classes, rows, inputs), (steps, _, drawn) = coordinates.shape, index.shape
        parameters, velocity = start
        padded = [_round_up(count, coordinates.dtype) for count in (len(parameters[HIDDEN_BIAS]), inputs + 1, classes)]
        numbers = sizes(steps, classes * drawn, inputs, padded[0], classes, *padded[1:])

        def call(name: str, *tensors: Tensor | None) -> None:
            function = self.kernels[name][coordinates.dtype]
            function(numbers, pointers(*tensors), ctypes.c_double(self.rate), ctypes.c_double(self.momentum))

        flat = coordinates.flatten(0, 1)
        images = _padded(torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1)).contiguous()  # an input for the bias
        targets = _padded(_one_hot(coordinates, rows)).contiguous()
        minibatches = (index + rows * torch.arange(classes).view(1, classes, 1)).flatten(1).contiguous()
        keep = steps if torch.is_grad_enabled() else None
        packed = _packed(parameters), _packed(velocity)
        trained, moved = _Train.apply(call, keep, images, targets, minibatches, *packed)
        return _unpacked(trained, parameters), _unpacked(moved, parameters)


class _Train(torch.autograd.Function):
    """All steps, with the parameters before each of `keep` steps; None keeps nothing, and has no gradient."""

    @staticmethod
    def forward(  # noqa: PLR0917, PLR0913  (autograd passes every argument by position)
        ctx: Any,
        call: Callable[..., None],
        keep: int | None,
        images: Tensor,
        targets: Tensor,
        index: Tensor,
        start: Tensor,
        velocity: Tensor,
    ) -> tuple[Tensor, Tensor]:
        moved, states = velocity.clone(), start.new_empty((keep or 0) + 1, len(start))
        states[0] = start
        call("train", images, targets, index, states, moved, None if keep is None else states)
        ctx.call = call
        ctx.save_for_backward(images, targets, index, states)
        ctx.mark_non_differentiable(moved)
        return states[-1].clone(), moved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        images, targets, index, states = ctx.saved_tensors
        lam, mu, gain = gradient.clone(), torch.zeros_like(gradient), torch.zeros_like(images)
        ctx.call("reverse", images, targets, index, states, lam, mu, gain)
        return None, None, gain, None, None, lam, mu


def _one_hot(coordinates: Tensor, each: int) -> Tensor:
    """Targets [d_y * each, d_y]."""
    return torch.eye(len(coordinates), dtype=coordinates.dtype).repeat_interleave(each, dim=0)


def _packed(parameters: Parameters) -> Tensor:
    """The parameters as one vector, in the layout of dense.cpp."""
    rows = torch.cat([parameters[HIDDEN_WEIGHT].T, parameters[HIDDEN_BIAS][None], parameters[WEIGHT]])
    return torch.cat([_padded(rows).flatten(), _padded(parameters[BIAS])])


def _unpacked(vector: Tensor, like: Parameters) -> Parameters:
    """The parameters that such a vector holds, for a network of this size."""
    (hidden, inputs), classes = like[HIDDEN_WEIGHT].shape, len(like[WEIGHT])
    width = _round_up(hidden, vector.dtype)
    rows = vector[: (inputs + 1 + classes) * width].view(-1, width)[:, :hidden]
    bias = vector[(inputs + 1 + classes) * width :][:classes]
    return {HIDDEN_WEIGHT: rows[:inputs].T, HIDDEN_BIAS: rows[inputs], WEIGHT: rows[inputs + 1 :], BIAS: bias}


def _round_up(count: int, dtype: torch.dtype) -> int:
    """The length of `count` numbers that are padded to whole vectors."""
    lanes = VECTOR // dtype.itemsize
    return -(-count // lanes) * lanes


def _padded(rows: Tensor) -> Tensor:
    """Rows [..., n] with zeros up to whole vectors."""
    return pad(rows, (0, _round_up(rows.shape[-1], rows.dtype) - rows.shape[-1]))
