"""Trains an MLP on the coordinates of recalled images: step by step for any depth, or all steps at once in C++."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.networks import MLP, Parameters
from trainer.objectives.inner.autograd_step import DifferentiatedStep
from trainer.objectives.inner.kernels import dense
from trainer.objectives.inner.kernels.dense import Dense, Examples, NativeDense
from trainer.objectives.inner.step import TrainState
from trainer.objectives.inner.unroll import train, unroll

HIDDEN_WEIGHT, HIDDEN_BIAS = "layer0.weight", "layer0.bias"
WEIGHT, BIAS = "classifier.weight", "classifier.bias"


class AbstractNarrowTraining(ABC):
    """SGD with momentum on coordinates [d_y, r, K], labelled by their class.

    `index` [T, d_y, n] has the rows of each class in the minibatch of each step. Arguments are not modified.
    """

    @abstractmethod
    def train(
        self, coordinates: Tensor, index: Tensor, parameters: Parameters, velocity: Parameters
    ) -> tuple[Parameters, Parameters]:
        """Parameters and velocity after T steps, not differentiable."""

    @abstractmethod
    def unroll(self, coordinates: Tensor, index: Tensor, parameters: Parameters, velocity: Parameters) -> Parameters:
        """Parameters after T steps, differentiable in the coordinates, the parameters and the velocity."""


def narrow_training(network: MLP, inputs: int, *, rate: float, momentum: float) -> AbstractNarrowTraining:
    """The training of the network with `inputs` inputs: in C++ for one hidden layer, if that can be compiled."""
    native = dense.native_dense() if network.depth == 1 else None
    if native is not None:
        return NativeTraining(native, rate, momentum)
    return StepwiseTraining(DifferentiatedStep(narrowed(network, inputs), compiled=False), rate, momentum)


def narrowed(network: MLP, inputs: int) -> MLP:
    """The same network with `inputs` numbers as its input instead of pictures."""
    return MLP(channels=1, height=1, width=inputs, classes=network.classes, hidden=network.hidden, depth=network.depth)


@final
@dataclass(frozen=True)
class StepwiseTraining(AbstractNarrowTraining):
    """Training by one differentiable step after another."""

    step: DifferentiatedStep
    rate: float
    momentum: float

    def train(
        self, coordinates: Tensor, index: Tensor, parameters: Parameters, velocity: Parameters
    ) -> tuple[Parameters, Parameters]:
        trained = train(self.step, self._state(parameters, velocity), *_minibatches(coordinates, index))
        return trained.parameters, trained.velocity

    def unroll(self, coordinates: Tensor, index: Tensor, parameters: Parameters, velocity: Parameters) -> Parameters:
        return unroll(self.step, self._state(parameters, velocity), *_minibatches(coordinates, index)).parameters

    def _state(self, parameters: Parameters, velocity: Parameters) -> TrainState:
        return TrainState(parameters, velocity, torch.tensor(self.rate), torch.tensor(self.momentum))


def _minibatches(coordinates: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """index [T, d_y, n] -> images [T, d_y * n, 1, 1, K] and targets [T, d_y * n, d_y]."""
    steps, classes, drawn = index.shape
    label = torch.arange(classes).view(1, classes, 1).expand_as(index)
    images = coordinates[label, index].reshape(steps, classes * drawn, 1, 1, -1)
    targets = torch.eye(classes, dtype=images.dtype).repeat_interleave(drawn, dim=0)
    return images, targets.expand(steps, *targets.shape)


@final
@dataclass(frozen=True)
class NativeTraining(AbstractNarrowTraining):
    """Training of a network with one hidden layer, entirely in C++."""

    native: NativeDense
    rate: float
    momentum: float

    def train(
        self, coordinates: Tensor, index: Tensor, parameters: Parameters, velocity: Parameters
    ) -> tuple[Parameters, Parameters]:
        trained, moved = self.native.train(
            _examples(coordinates, index), _dense(parameters), _dense(velocity), rate=self.rate, momentum=self.momentum
        )
        return _parameters(trained), _parameters(moved)

    def unroll(self, coordinates: Tensor, index: Tensor, parameters: Parameters, velocity: Parameters) -> Parameters:
        return _parameters(
            self.native.unroll(
                _examples(coordinates, index),
                _dense(parameters),
                _dense(velocity),
                rate=self.rate,
                momentum=self.momentum,
            )
        )


def _examples(coordinates: Tensor, index: Tensor) -> Examples:
    classes, rows = coordinates.shape[:2]
    targets = torch.eye(classes, dtype=coordinates.dtype).repeat_interleave(rows, dim=0)
    flat = index + rows * torch.arange(classes).view(1, classes, 1)
    return Examples(coordinates.flatten(0, 1), targets, flat.flatten(1))


def _dense(parameters: Parameters) -> Dense:
    return Dense(parameters[HIDDEN_WEIGHT], parameters[HIDDEN_BIAS], parameters[WEIGHT], parameters[BIAS])


def _parameters(row: Dense) -> Parameters:
    return {HIDDEN_WEIGHT: row.first, HIDDEN_BIAS: row.first_bias, WEIGHT: row.second, BIAS: row.second_bias}
