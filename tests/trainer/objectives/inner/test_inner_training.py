"""Every way to train inner networks equals naive unrolling of the same, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recall_server.core.networks import Parameters
from tests.tolerances import assert_close
from tests.trainer.objectives.inner.test_unroll import GAIN, NETWORK, TERMS, make_inputs
from trainer.objectives.inner.inner_training import (
    EPSILON,
    AbstractInnerTraining,
    AdamTraining,
    Momentum,
    StepSizes,
    gradient,
)
from trainer.objectives.inner.steps.step import AbstractInnerStep, soft_cross_entropy

TRAININGS: dict[str, AbstractInnerTraining] = {
    "no momentum": Momentum(0.0),
    "forward-only momentum": Momentum(0.9, "forward"),
    "full momentum": Momentum(0.9),
    "adam": AdamTraining(),
}


def naive(name: str, images: Tensor, targets: Tensor, parameters: Parameters, rate: Tensor) -> Parameters:
    """The oracle: every step in one graph, by create_graph."""
    first = {key: torch.zeros_like(value) for key, value in parameters.items()}
    second = first
    for count, (batch, target) in enumerate(zip(images, targets, strict=True), start=1):
        loss = soft_cross_entropy(NETWORK.logits(parameters, batch), target)
        found = dict(
            zip(parameters, torch.autograd.grad(loss, list(parameters.values()), create_graph=True), strict=True)
        )
        if name == "adam":
            first = {key: 0.9 * first[key] + 0.1 * g for key, g in found.items()}
            second = {key: 0.999 * second[key] + 0.001 * g**2 for key, g in found.items()}
            root = {key: (value / (1 - 0.999**count) + EPSILON**2).sqrt() for key, value in second.items()}
            move = {key: value / (1 - 0.9**count) / root[key] for key, value in first.items()}
        else:
            momentum = 0.0 if name == "no momentum" else 0.9
            before = {key: value.detach() for key, value in first.items()} if name.startswith("forward") else first
            first = move = {key: momentum * before[key] + g for key, g in found.items()}
        parameters = {key: value - rate * move[key] for key, value in parameters.items()}
    return parameters


def leaves(rate: float) -> tuple[Tensor, Tensor, Parameters, Tensor]:
    inputs = make_inputs()
    images, targets, parameters = inputs["images"], inputs["targets"], inputs["parameters"]
    assert isinstance(images, Tensor) and isinstance(targets, Tensor) and isinstance(parameters, dict)
    size = torch.tensor(rate, dtype=torch.float64).requires_grad_()
    parameters = {name: value.requires_grad_() for name, value in parameters.items()}
    return images.requires_grad_(), targets.requires_grad_(), parameters, size


def outer_loss(parameters: Parameters) -> Tensor:
    return torch.stack([(value.sin() * index).sum() for index, value in enumerate(parameters.values(), start=1)]).sum()


@pytest.mark.parametrize("name", TRAININGS)
def test_gradients_for_images_targets_and_rate_equal_naive_unrolling(step: AbstractInnerStep, name: str) -> None:
    training, given = TRAININGS[name], leaves(0.01 if name == "adam" else 0.3)
    images, targets, parameters, rate = given
    ours = outer_loss(training.unroll(step, training.begin(parameters, rate), images, targets).parameters)
    oracle = outer_loss(naive(name, images, targets, parameters, rate))
    gain = 1e4 if name == "adam" else GAIN  # Adam divides by gradients, however small they are
    assert_close(ours, oracle, terms=TERMS, gain=gain)
    mine = torch.autograd.grad(ours, (images, targets, rate))
    theirs = torch.autograd.grad(oracle, (images, targets, rate))
    assert_close(mine, theirs, terms=TERMS, gain=gain)


def test_gradients_for_step_sizes_equal_naive_unrolling(step: AbstractInnerStep) -> None:
    images, targets, parameters, _ = leaves(0.3)
    rates = torch.linspace(0.1, 0.5, len(images), dtype=torch.float64).requires_grad_()
    training = StepSizes(0.9)
    after = training.unroll(step, training.begin(parameters, rates), images, targets)
    assert len(after.rate) == 0, "there are no more steps to come"
    naively = dict(parameters)
    velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for rate, batch, target in zip(rates, images, targets, strict=True):
        loss = soft_cross_entropy(NETWORK.logits(naively, batch), target)
        found = torch.autograd.grad(loss, list(naively.values()), create_graph=True)
        velocity = {name: 0.9 * velocity[name] + g for name, g in zip(naively, found, strict=True)}
        naively = {name: value - rate * velocity[name] for name, value in naively.items()}
    ours, oracle = outer_loss(after.parameters), outer_loss(naively)
    assert_close(ours, oracle, terms=TERMS, gain=GAIN)
    mine = torch.autograd.grad(ours, (images, targets, rates))
    theirs = torch.autograd.grad(oracle, (images, targets, rates))
    assert_close(mine, theirs, terms=TERMS, gain=GAIN)
    with torch.no_grad():
        there = training.train(step, training.begin(parameters, rates), images, targets)
    assert_close(there.parameters, {name: value.detach() for name, value in naively.items()}, terms=TERMS, gain=GAIN)


@pytest.mark.parametrize("name", TRAININGS)
def test_steps_without_a_gradient_end_in_the_same_state(step: AbstractInnerStep, name: str) -> None:
    training, (images, targets, parameters, rate) = TRAININGS[name], leaves(0.01)
    whole = training.unroll(step, training.begin(parameters, rate), images, targets).parameters
    some = training.train(step, training.begin(parameters, rate), images[:3], targets[:3])
    rest = training.unroll(step, some, images[3:], targets[3:])
    assert not any(value.requires_grad for value in some.parameters.values())
    assert_close(rest.parameters, whole, terms=TERMS)


def test_forward_only_momentum_trains_like_full_momentum_and_differentiates_otherwise(step: AbstractInnerStep) -> None:
    images, targets, parameters, rate = leaves(0.3)
    found = {}
    for name in ("forward-only momentum", "full momentum"):
        training = TRAININGS[name]
        trained = training.unroll(step, training.begin(parameters, rate), images, targets).parameters
        found[name] = trained, torch.autograd.grad(outer_loss(trained), images)[0]
    (forward, one), (full, other) = found.values()
    assert_close(forward, full, terms=TERMS)
    assert_close(one[-1], other[-1], terms=TERMS)  # the last step bridges to nothing
    assert not torch.allclose(one[0], other[0], rtol=0.01)


def test_the_gradient_of_a_minibatch_is_differentiable_in_all_inputs(step: AbstractInnerStep) -> None:
    images, targets, parameters, _ = leaves(0.3)
    names, values = list(parameters), list(parameters.values())

    def function(images: Tensor, targets: Tensor, *flat: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient(step, images, targets, dict(zip(names, flat, strict=True))).values())

    assert torch.autograd.gradcheck(function, (images[0].detach().requires_grad_(), targets[0].detach(), *values))
