"""The step written by hand is the step that autograd derives: padding, parts, few and many channels, half precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recall_server.core.networks import AlexNet, ConvNet, Parameters
from recall_server.core.networks.kernels import AbstractBlocks, TorchBlocks, native_blocks
from tests.suite.needs import NO_COMPILER
from tests.tolerances import assert_close, magnitude
from trainer.objectives.inner.steps import convnet_step
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep
from trainer.objectives.inner.steps.convnet_step import ConvNetStep
from trainer.objectives.inner.steps.select_step import inner_step
from trainer.objectives.inner.steps.step import TrainState

TERMS = 7 * 13 * 16  # pixels of a minibatch: a gradient is their sum, the longest one
NETWORKS = {
    "grey, padded": ConvNet(channels=1, height=11, width=14, classes=4, filters=9, depth=3),
    "colour": ConvNet(channels=3, height=8, width=8, classes=4, filters=16, depth=2),
    "compiled convolutions": ConvNet(channels=3, height=13, width=16, classes=4, filters=32, depth=2),
    "shrunk, padded": ConvNet(channels=3, height=15, width=13, classes=4, filters=32, depth=2, shrink=2),
    "many channels, one block": ConvNet(channels=6, height=4, width=4, classes=4, filters=5, depth=1),
}


@pytest.fixture(params=["torch", "C++"])
def blocks(request: pytest.FixtureRequest) -> AbstractBlocks:
    return TorchBlocks() if request.param == "torch" else native_blocks() or pytest.skip(NO_COMPILER)


def draw(network: ConvNet, dtype: torch.dtype, batch: int = 5) -> tuple[Parameters, Parameters, Tensor, Tensor]:
    """Parameters and a direction for all of them, images, and targets that need not sum to one."""
    generator = torch.Generator().manual_seed(0)
    parameters = {name: value.to(dtype) for name, value in network.initialise(generator).items()}
    mu = {name: torch.randn(value.shape, generator=generator).to(dtype) for name, value in parameters.items()}
    images = torch.randn(batch, network.channels, network.height, network.width, generator=generator).to(dtype)
    return parameters, mu, images, torch.rand(batch, network.classes, generator=generator).to(dtype)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_forward_and_reverse_equal_the_derived_ones_in_float64(network: ConvNet, blocks: AbstractBlocks) -> None:
    parameters, mu, images, targets = draw(network, torch.float64)
    mine, derived = ConvNetStep(network, blocks), DifferentiatedStep(network, compiled=False)
    state = TrainState(parameters, mu, torch.tensor(0.1), torch.tensor(0.9))
    assert_close(mine.forward(state, images, targets), derived.forward(state, images, targets), terms=TERMS)
    found, oracle = (each.reverse(parameters, images, targets, mu) for each in (mine, derived))
    assert_close(found, oracle, terms=TERMS, size=magnitude(oracle))


def test_a_minibatch_in_parts_equals_the_whole(blocks: AbstractBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS["colour"]
    parameters, mu, images, targets = draw(network, torch.float64, batch=7)
    step = ConvNetStep(network, blocks)
    whole = step.reverse(parameters, images, targets, mu), step.evaluate(parameters, images, targets)
    monkeypatch.setattr(convnet_step, "images_at_once", lambda network, device: 3)
    for some in (step, replace(step, multiple=2)):
        parts = some.reverse(parameters, images, targets, mu), some.evaluate(parameters, images, targets)
        assert_close(parts, whole, terms=TERMS)


def test_the_outer_loss_has_the_gradient_of_autograd(blocks: AbstractBlocks) -> None:
    network = NETWORKS["grey, padded"]
    parameters, _, images, targets = draw(network, torch.float64)
    losses, gradients = [], []
    for step in (ConvNetStep(network, blocks), DifferentiatedStep(network, compiled=False)):
        leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        losses.append(step.evaluate(leaves, images, targets))
        gradients.append(torch.autograd.grad(3 * losses[-1], list(leaves.values())))
    assert_close(losses[0], losses[1], terms=TERMS)
    assert_close(gradients[0], gradients[1], terms=TERMS, size=magnitude(gradients[1]))


def test_the_outer_loss_refuses_a_gradient_that_it_does_not_compute() -> None:
    network = NETWORKS["colour"]
    parameters, _, images, targets = draw(network, torch.float64)
    with pytest.raises(NotImplementedError, match="differentiable for the parameters"):
        ConvNetStep(network, TorchBlocks()).evaluate(parameters, images.requires_grad_(), targets)


def test_bfloat16_convolutions_keep_the_direction_of_the_gradient(blocks: AbstractBlocks) -> None:
    network = NETWORKS["grey, padded"]
    parameters, mu, images, targets = draw(network, torch.float32)
    exact = ConvNetStep(network, blocks).reverse(parameters, images, targets, mu)
    half = ConvNetStep(replace(network, convolution_dtype=torch.bfloat16), blocks)
    rough = half.reverse(parameters, images, targets, mu)
    assert rough[0].dtype == torch.float32
    assert torch.cosine_similarity(rough[0].flatten(), exact[0].flatten(), dim=0) > 0.99
    assert all(value.dtype == torch.float32 for value in rough[2].values())


def test_a_convnet_gets_the_step_by_hand_and_other_networks_the_derived_one() -> None:
    cpu = torch.device("cpu")
    assert isinstance(inner_step(NETWORKS["colour"], cpu), ConvNetStep)
    alexnet = AlexNet(channels=3, height=32, width=32, classes=4)
    assert inner_step(alexnet, cpu, compiled=False) == DifferentiatedStep(alexnet, compiled=False)
