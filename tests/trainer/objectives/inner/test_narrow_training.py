"""Training in C++ equals step-by-step training, to the precision of its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from recall_server.core.networks import MLP
from tests.suite.needs import NO_COMPILER
from tests.tolerances import assert_close, rounding
from trainer.objectives.inner import narrow_training as narrow
from trainer.objectives.inner.narrow_training import (
    AbstractNarrowTraining,
    Kernels,
    Moving,
    NativeTraining,
    StepwiseTraining,
    narrow_training,
    native_dense,
)
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep

TERMS = 6 * 256  # steps, and the widest layer
RATE, MOMENTUM = 0.25, 0.875  # exact in every precision


@pytest.fixture
def native() -> Kernels:
    return native_dense() or pytest.skip(NO_COMPILER)


@dataclass
class Drawn:
    """A training of a network with so many inputs, hidden units and classes."""

    inputs: int
    hidden: int
    classes: int
    dtype: torch.dtype = torch.float64
    rows: int = 4
    steps: int = 6

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.network = MLP(channels=1, height=1, width=self.inputs, classes=self.classes, hidden=self.hidden)
        start = self.network.initialise(generator)
        self.parameters = {name: value.to(self.dtype).requires_grad_() for name, value in start.items()}
        self.velocity = {name: torch.randn(value.shape, generator=generator).to(value) for name, value in start.items()}
        self.velocity = {name: (0.01 * value).to(self.dtype).requires_grad_() for name, value in self.velocity.items()}
        drawn = torch.randn(self.classes, self.rows, self.inputs, generator=generator)
        self.coordinates = drawn.to(self.dtype).requires_grad_()
        shape = self.steps, self.classes, 3
        self.index = torch.rand(*shape[:2], self.rows, generator=generator).argsort(dim=2)[:, :, : shape[2]]
        self.weights = {name: torch.randn(value.shape, generator=generator).to(value) for name, value in start.items()}

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Moving]:
        return self.coordinates, self.index, (self.parameters, self.velocity)

    def stepwise(self) -> StepwiseTraining:
        return StepwiseTraining(DifferentiatedStep(self.network, compiled=False), rate=RATE, momentum=MOMENTUM)

    def gradients(self, training: AbstractNarrowTraining) -> tuple[Tensor, ...]:
        """Of a weighted sum of what was trained, for the coordinates, the first parameters and the first velocity."""
        trained, _ = training.train(*self.arguments)
        total = torch.stack([(self.weights[name].to(self.dtype) * value).sum() for name, value in trained.items()])
        leaves = [self.coordinates, *self.parameters.values(), *self.velocity.values()]
        return torch.autograd.grad(total.sum(), leaves)


SIZES = [(5, 12, 3), (8, 16, 2), (24, 256, 10), (31, 40, 17), (1, 1, 2)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_native_training_equals_the_derived_training(size: tuple[int, int, int], native: Kernels) -> None:
    drawn = Drawn(*size)
    with torch.no_grad():
        expected = drawn.stepwise().train(*drawn.arguments)
        found = NativeTraining(native, rate=RATE, momentum=MOMENTUM).train(*drawn.arguments)
    assert_close(found, expected, terms=TERMS)
    differentiable = NativeTraining(native, rate=RATE, momentum=MOMENTUM).train(*drawn.arguments)
    for one, other in zip(differentiable, found, strict=True):
        assert all(torch.equal(one[name], value) for name, value in other.items())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_native_gradients_equal_those_of_the_derived_training(size: tuple[int, int, int], native: Kernels) -> None:
    drawn = Drawn(*size)
    expected = drawn.gradients(drawn.stepwise())
    found = drawn.gradients(NativeTraining(native, rate=RATE, momentum=MOMENTUM))
    assert_close(found, expected, terms=TERMS)


def test_gradients_are_those_of_finite_differences(native: Kernels) -> None:
    drawn = Drawn(3, 5, 2, steps=4)
    training = NativeTraining(native, rate=RATE, momentum=MOMENTUM)

    def trained(coordinates: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        count = len(drawn.parameters)
        parameters, velocity = (
            dict(zip(drawn.parameters, some, strict=True)) for some in (leaves[:count], leaves[count:])
        )
        return tuple(training.train(coordinates, drawn.index, (parameters, velocity))[0].values())

    leaves = drawn.coordinates, *drawn.parameters.values(), *drawn.velocity.values()
    assert torch.autograd.gradcheck(trained, leaves)


def test_float32_is_as_near_to_float64_as_the_derived_training(native: Kernels) -> None:
    exact = Drawn(24, 64, 10).gradients(NativeTraining(native, rate=RATE, momentum=MOMENTUM))
    rounded = Drawn(24, 64, 10, dtype=torch.float32)
    mine = rounded.gradients(NativeTraining(native, rate=RATE, momentum=MOMENTUM))
    derived = rounded.gradients(rounded.stepwise())
    for true, found, other in zip(exact, mine, derived, strict=True):
        assert (found - true).norm() <= 2 * (other - true).norm() + rounding(torch.float32) * true.norm()


def test_inputs_are_not_modified(native: Kernels) -> None:
    drawn, untouched = Drawn(5, 12, 3), Drawn(5, 12, 3)
    training = NativeTraining(native, rate=RATE, momentum=MOMENTUM)
    training.train(*drawn.arguments)
    drawn.gradients(training)
    torch.testing.assert_close(drawn.arguments, untouched.arguments, rtol=0, atol=0)  # not a bit


def test_nan_is_propagated(native: Kernels) -> None:
    drawn = Drawn(5, 12, 3)
    with torch.no_grad():
        drawn.coordinates[0, :, 0] = torch.nan
    trained, _ = NativeTraining(native, rate=RATE, momentum=MOMENTUM).train(*drawn.arguments)
    assert all(value.isnan().any() for value in trained.values())


def test_mlps_with_one_hidden_layer_are_trained_in_cpp(native: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    shallow = MLP(channels=1, height=8, width=8, classes=3, hidden=12)
    deep = MLP(channels=1, height=8, width=8, classes=3, hidden=12, depth=2)
    assert isinstance(narrow_training(shallow, 5, rate=RATE, momentum=MOMENTUM), NativeTraining)
    assert isinstance(narrow_training(deep, 5, rate=RATE, momentum=MOMENTUM), StepwiseTraining)
    monkeypatch.setattr(narrow, "native_dense", lambda: None)
    assert isinstance(narrow_training(shallow, 5, rate=RATE, momentum=MOMENTUM), StepwiseTraining)
