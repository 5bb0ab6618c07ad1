"""The hand-written ConvNet has the logits, loss and gradient of autograd; other networks use autograd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.networks import AlexNet, ConvNet, Parameters, kernels
from recall_server.core.networks.kernels import AbstractBlocks, TorchBlocks, native_blocks
from recall_server.core.training.descent import MomentumDescent, images_at_once, predicted_logits
from recall_server.core.training.fused import fused_logits, trainable_parameters
from recall_server.core.training.manual_backprop import ConvNetByHand, by_hand
from tests.suite.needs import NO_COMPILER
from tests.tolerances import assert_close

CPU = torch.device("cpu")
TERMS = 7 * 18 * 25  # pixels of a minibatch: a gradient is their sum, the longest one
NETWORKS = {
    "grey, padded": ConvNet(channels=1, height=11, width=14, classes=4, filters=9, depth=3),
    "compiled convolutions": ConvNet(channels=3, height=16, width=16, classes=4, filters=32, depth=2),
    "shrunk": ConvNet(channels=3, height=18, width=25, classes=4, filters=9, depth=2, shrink=2),
}


@pytest.fixture(params=["torch", "C++"])
def blocks(request: pytest.FixtureRequest) -> AbstractBlocks:
    return TorchBlocks() if request.param == "torch" else native_blocks() or pytest.skip(NO_COMPILER)


def draw(network: ConvNet, dtype: torch.dtype, batch: int = 7) -> tuple[Parameters, Tensor, Tensor]:
    """Parameters, images, and targets that need not sum to one."""
    generator = torch.Generator().manual_seed(0)
    parameters = {name: value.to(dtype) for name, value in network.initialise(generator).items()}
    images = torch.randn(batch, network.channels, network.height, network.width, generator=generator).to(dtype)
    return parameters, images, torch.rand(batch, network.classes, generator=generator).to(dtype)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_loss_gradient_and_logits_are_those_of_autograd(network: ConvNet, blocks: AbstractBlocks) -> None:
    parameters, images, targets = draw(network, torch.float64)
    hand = ConvNetByHand(network, blocks)
    leaves = {name: value.requires_grad_() for name, value in parameters.items()}
    logits = network.logits(leaves, images)
    oracle = cross_entropy(logits, targets, reduction="sum") / 10
    gradients = torch.autograd.grad(oracle, [leaves[name] for name in trainable_parameters(network)])
    with torch.no_grad():
        loss, gradient = hand.loss_and_gradient(parameters, images, targets, 10)
        assert_close(hand.logits(parameters, images), logits, terms=TERMS)
    assert_close(loss, oracle.detach(), terms=TERMS)
    mine = [gradient[name] for name in trainable_parameters(network)]
    assert_close(mine, list(gradients), terms=TERMS)
    assert set(gradient) == set(trainable_parameters(network))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_gradient_for_images_is_that_of_autograd(network: ConvNet, blocks: AbstractBlocks) -> None:
    parameters, images, targets = draw(network, torch.float64)
    leaf = images.requires_grad_()
    logits = [ConvNetByHand(network, blocks).logits_of(parameters, leaf), network.logits(parameters, leaf)]
    mine, oracle = (torch.autograd.grad((each * targets).sum(), leaf)[0] for each in logits)
    assert_close(logits[0].detach(), logits[1].detach(), terms=TERMS)
    assert_close(mine, oracle, terms=TERMS)


def test_descent_by_hand_equals_descent_by_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS["compiled convolutions"]
    parameters, images, targets = draw(network, torch.float64, batch=2 * images_at_once(network, CPU) + 1)
    ends = []
    for blocks in (native_blocks(), None):
        monkeypatch.setattr("recall_server.core.training.manual_backprop.native_blocks", lambda blocks=blocks: blocks)
        by_hand.cache_clear()
        descent = MomentumDescent(network, parameters)
        for _ in range(3):
            descent.step(images, targets, rate=0.05, momentum=0.9)
        ends.append(descent.parameters())
    by_hand.cache_clear()
    assert_close(ends[0], ends[1], terms=3 * TERMS)


def test_predictions_are_those_of_the_fused_network() -> None:
    network = NETWORKS["compiled convolutions"]
    parameters, images, _ = draw(network, torch.float32)
    mine, fused = predicted_logits(network, parameters, images), fused_logits(network, parameters, images)
    assert_close(mine, fused, terms=TERMS)


def test_rounded_convolutions_stay_close() -> None:
    network = NETWORKS["compiled convolutions"]
    parameters, images, _ = draw(network, torch.float32)
    rounded = predicted_logits(replace(network, convolution_dtype=torch.bfloat16), parameters, images)
    exact = predicted_logits(network, parameters, images)
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()


def test_only_convnets_on_the_cpu_have_manual_backpropagation(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS["grey, padded"]
    assert by_hand(network, torch.device("cuda")) is None
    assert by_hand(AlexNet(channels=3, height=32, width=32, classes=4), CPU) is None
    monkeypatch.setattr("recall_server.core.training.manual_backprop.native_blocks", lambda: None)
    by_hand.cache_clear()
    assert by_hand(network, CPU) is None
    by_hand.cache_clear()


def test_prepare_returns_whether_all_kernels_are_compiled() -> None:
    assert kernels.prepare() == (native_blocks() is not None)
