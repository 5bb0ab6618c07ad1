"""Descent on parts of a minibatch equals descent on the whole, with bounded memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.networks import AbstractNetwork, NetworkSpec, build_network
from recall_server.core.training.descent import MomentumDescent, images_at_once
from tests.tolerances import assert_close

CPU = torch.device("cpu")


def _network(spec: str = "convnet:filters=64,depth=1", side: int = 64) -> AbstractNetwork:
    return build_network(NetworkSpec.parse(spec), (1, side, side), 3)


def _batch(number: int, side: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(number, 1, side, side, generator=generator)
    return images, torch.rand(number, 3, generator=generator).softmax(dim=1)


def test_a_minibatch_processed_in_parts_is_one_step() -> None:
    network = _network()
    images, targets = _batch(35)
    assert images_at_once(network, CPU) == 16  # so that 35 go through in three parts, the last one smaller
    initial = network.initialise(torch.Generator().manual_seed(0))
    kept = {name: value.clone() for name, value in initial.items()}
    descent = MomentumDescent(network, initial)
    losses = [float(descent.step(images, targets, rate=0.1, momentum=0.9)) for _ in range(2)]

    leaves = {name: value.clone().requires_grad_() for name, value in initial.items()}
    optimiser = torch.optim.SGD(leaves.values(), lr=0.1, momentum=0.9)
    terms = 64 * 32 * 32  # numbers that make a logit, the longest sum
    for found in losses:
        loss = cross_entropy(network.logits(leaves, images), targets)
        assert_close(found, float(loss.detach()), terms=terms, dtype=torch.float32)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    expected = {name: value.detach() for name, value in leaves.items()}
    assert_close(descent.parameters(), expected, terms=terms)
    assert all(torch.equal(initial[name], kept[name]) for name in kept)


@pytest.mark.parametrize(
    ("spec", "side", "images"),
    [
        ("convnet", 8, 512),
        ("convnet", 28, 41),
        ("resnet", 32, 64),
        ("alexnet", 32, 32),
        ("convnet:filters=1024", 512, 1),
        ("mlp", 28, 5349),
        ("mlp:hidden=2048", 28, 2048),
    ],
)
def test_the_part_of_a_minibatch_is_bounded_by_memory(spec: str, side: int, images: int) -> None:
    assert images_at_once(_network(spec, side), CPU) == images


def test_parameters_are_detached_and_divergence_is_noticed() -> None:
    network = _network(side=8)
    images, targets = _batch(4, side=8)
    descent = MomentumDescent(network, network.initialise(torch.Generator().manual_seed(0)))
    descent.step(images, targets, rate=0.1, momentum=0.0)
    assert descent.finite()
    assert set(descent.parameters()) == set(network.shapes())
    assert not any(value.requires_grad for value in descent.parameters().values())
    descent.step(images, targets, rate=float("inf"), momentum=0.0)
    assert not descent.finite()
