"""Training of a network with one hidden layer for many steps, and its reverse, in C++ for the CPU (`dense.cpp`)."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from recall_server.core.networks.kernels.calls import functions, pointers, sizes
from recall_server.core.networks.kernels.compiled import compiled

PRECISIONS = (torch.float32, torch.float64)
VECTOR = 64  # bytes; rows are padded to whole vectors


@functools.cache
def native_dense() -> NativeDense | None:
    """Return the compiled training; None, with the reason in the log, if it cannot be compiled."""
    library = compiled(Path(__file__).with_name("dense.cpp"))
    return None if library is None else NativeDense(library)


@final
@dataclass(frozen=True, eq=False)
class Examples:
    """Images [M, K], their targets [M, C] (distributions), and `index`, int64 [T, B]: the minibatch of each step."""

    images: Tensor
    targets: Tensor
    index: Tensor


@final
@dataclass(frozen=True, eq=False)
class Dense:
    """Parameters of a network with one hidden layer: weights [H, K] and [C, H], biases [H] and [C]."""

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor

    def packed(self) -> Tensor:
        """Return the parameters as one vector, in the layout of dense.cpp."""
        rows = torch.cat([self.first.T, self.first_bias[None], self.second])
        return torch.cat([_padded(rows).flatten(), _padded(self.second_bias)])

    def unpacked(self, row: Tensor) -> Dense:
        """Return the parameters that such a vector holds, for a network of this size."""
        (hidden, inputs), classes = self.first.shape, len(self.second)
        width = _round_up(hidden, row.dtype)
        rows = row[: (inputs + 1 + classes) * width].view(-1, width)[:, :hidden]
        bias = row[(inputs + 1 + classes) * width :][:classes]
        return Dense(rows[:inputs].T, rows[inputs], rows[inputs + 1 :], bias)


@final
class NativeDense:
    """SGD with momentum on the mean soft cross-entropy, in float32 or float64."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._train, self._reverse = (functions(library, name, PRECISIONS) for name in ("train", "reverse"))

    def train(
        self, examples: Examples, parameters: Dense, velocity: Dense, *, rate: float, momentum: float
    ) -> tuple[Dense, Dense]:
        """Return parameters and velocity after all steps, without a gradient."""
        with torch.no_grad():
            state, moved = parameters.packed().clone(), velocity.packed().clone()
            run = _Run(parameters, examples, rate, momentum)
            run.call(self._train[state.dtype], *run.inputs(examples), state, moved, None)
            return parameters.unpacked(state), parameters.unpacked(moved)

    def unroll(self, examples: Examples, parameters: Dense, velocity: Dense, *, rate: float, momentum: float) -> Dense:
        """Return the parameters after all steps, differentiable in images, parameters and velocity."""
        run = _Run(parameters, examples, rate, momentum)
        trained: Tensor = _Unroll.apply(self, run, *run.inputs(examples), parameters.packed(), velocity.packed())
        return parameters.unpacked(trained)

    def forward(self, run: _Run, inputs: tuple[Tensor, ...], start: Tensor, velocity: Tensor) -> Tensor:
        """Return the parameters before every step and after the last one, [T + 1, P]."""
        states = start.new_empty(run.steps + 1, len(start))
        states[0] = start
        run.call(self._train[start.dtype], *inputs, states, velocity.clone(), states)
        return states

    def backward(
        self, run: _Run, inputs: tuple[Tensor, ...], states: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients for images, first parameters and first velocity, from that for the last parameters."""
        lam, mu, gain = gradient.clone(), torch.zeros_like(gradient), torch.zeros_like(inputs[0])
        run.call(self._reverse[states.dtype], *inputs, states, lam, mu, gain)
        return gain, lam, mu


@final
class _Run:
    """Sizes, learning rate and momentum of one training."""

    def __init__(self, parameters: Dense, examples: Examples, rate: float, momentum: float) -> None:
        (hidden, inputs), classes = parameters.first.shape, len(parameters.second)
        self.steps, batch = examples.index.shape
        padded = [_round_up(count, parameters.first.dtype) for count in (hidden, inputs + 1, classes)]
        self._sizes = sizes(self.steps, batch, inputs, padded[0], classes, *padded[1:])
        self._rate, self._momentum = rate, momentum

    @staticmethod
    def inputs(examples: Examples) -> tuple[Tensor, Tensor, Tensor]:
        """Return images with an input of 1 for the bias, and targets, both padded; and the index."""
        images = torch.cat([examples.images, torch.ones_like(examples.images[:, :1])], dim=1)
        return _padded(images).contiguous(), _padded(examples.targets).contiguous(), examples.index.contiguous()

    def call(self, function: Any, *tensors: Tensor | None) -> None:
        function(self._sizes, pointers(*tensors), ctypes.c_double(self._rate), ctypes.c_double(self._momentum))


def _round_up(count: int, dtype: torch.dtype) -> int:
    """The length of `count` numbers that are padded to whole vectors."""
    lanes = VECTOR // dtype.itemsize
    return -(-count // lanes) * lanes


def _padded(rows: Tensor) -> Tensor:
    """Pad rows [..., n] with zeros to whole vectors."""
    return pad(rows, (0, _round_up(rows.shape[-1], rows.dtype) - rows.shape[-1]))


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917, PLR0913  (autograd passes every argument by position)
        ctx: Any,
        native: NativeDense,
        run: _Run,
        images: Tensor,
        targets: Tensor,
        index: Tensor,
        start: Tensor,
        velocity: Tensor,
    ) -> Tensor:
        states = native.forward(run, (images, targets, index), start, velocity)
        ctx.native, ctx.run = native, run
        ctx.save_for_backward(images, targets, index, states)
        return states[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, states = ctx.saved_tensors
        gain, start, velocity = ctx.native.backward(ctx.run, tuple(inputs), states, gradient)
        return None, None, gain, None, None, start, velocity
