"""Kernels are their formulas, written out naively in float64, and have the gradients of finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import avg_pool2d, conv2d

from recall_server.core.memory import StoredItems, initial_targets
from recall_server.core.networks.kernels import TorchBlocks
from tests.tolerances import assert_close
from tests.trainer.objectives.matching.matching_examples import NETWORK, TERMS, images, sampler
from trainer.objectives import Sampler
from trainer.objectives.inner.layer_features import ConvNetFeatures
from trainer.objectives.inner.network_pool import NetworkPool
from trainer.objectives.kernel.neural_tangent import NeuralTangent
from trainer.objectives.kernel.random_features import RandomFeatures
from trainer.objectives.kernel.trained_pool import TrainedPool, support_of

NOTHING = torch.Generator()


def naive_tangent(x: list[float], y: list[float], depth: int, weight: float, bias: float) -> float:
    """The recursion for one pair of inputs, number by number."""

    def first(one: list[float], other: list[float]) -> float:
        return weight * sum(a * b for a, b in zip(one, other, strict=True)) / len(one) + bias

    both, xx, yy = first(x, y), first(x, x), first(y, y)
    tangent = both
    for _ in range(depth):
        size = math.sqrt(xx * yy)
        angle = math.acos(max(-1.0, min(1.0, both / size)))
        slope = (math.pi - angle) / (2 * math.pi)
        both = weight * size * (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2 * math.pi) + bias
        xx, yy = weight * xx / 2 + bias, weight * yy / 2 + bias
        tangent = both + weight * slope * tangent
    return tangent


@pytest.mark.parametrize("depth", [1, 3])
def test_the_tangent_kernel_equals_its_recursion(depth: int) -> None:
    left, right = images(3)[:, :1, :2, :3], images(4, seed=2)[:, :1, :2, :3]
    kernel = NeuralTangent(depth, weight_variance=1.7, bias_variance=0.03)
    found = kernel.products(left, right, {}, NOTHING)
    pairs = [
        [naive_tangent(a, b, depth, 1.7, 0.03) for b in left.flatten(1).tolist()] for a in right.flatten(1).tolist()
    ]
    assert_close(found.cross, torch.tensor(pairs, dtype=torch.float64), terms=100)
    own = [[naive_tangent(a, b, depth, 1.7, 0.03) for b in left.flatten(1).tolist()] for a in left.flatten(1).tolist()]
    # An arc cosine near 1 turns a rounding error into its square root.
    torch.testing.assert_close(found.support, torch.tensor(own, dtype=torch.float64), rtol=0, atol=1e-6)


def test_the_tangent_kernel_is_that_of_a_wide_network_at_its_start() -> None:
    width, numbers = 20_000, 6
    x = torch.randn(5, numbers, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    first, shift, last = (
        torch.randn(*size, generator=generator).double() for size in ((width, numbers), (width,), (width,))
    )
    hidden = (2 / numbers) ** 0.5 * x @ first.T + 0.1 * shift
    active = (hidden > 0).double() * last
    # The gradients of the output (2 / width)^(1/2) <last, relu(hidden)> + 0.1 for all of its parameters, two at a time.
    of_last = 2 / width * hidden.relu() @ hidden.relu().T + 0.01
    of_first = (2 / width * active @ active.T) * (2 / numbers * x @ x.T + 0.01)
    closed = NeuralTangent(1).products(x, x, {}, NOTHING).support
    assert float((of_last + of_first - closed).abs().max()) < 10 * width**-0.5 * float(closed.max())


def test_gradients_of_the_tangent_kernel_equal_finite_differences_also_on_the_diagonal() -> None:
    items = images(3)[:, :, :2, :2].contiguous().requires_grad_()
    real = images(2, seed=3)[:, :, :2, :2]

    def total(items: Tensor) -> Tensor:
        support, cross = NeuralTangent(2).products(items, real, {}, NOTHING)
        return (support * torch.arange(9.0).view(3, 3)).sum() + cross.square().sum()

    assert gradcheck(total, items, fast_mode=True, eps=1e-6, atol=1e-4)


def test_equal_items_have_a_finite_gradient() -> None:
    items = torch.ones(2, 1, 2, 2).requires_grad_()
    support, cross = NeuralTangent().products(items, torch.ones(1, 1, 2, 2), {}, NOTHING)
    (support.sum() + cross.sum()).backward()
    assert items.grad is not None and bool(items.grad.isfinite().all())


def test_random_features_are_those_of_networks_without_normalisation() -> None:
    kernel = RandomFeatures(networks=2, filters=3, depth=2)
    own, real = images(3), images(4, seed=2)
    found = kernel.products(own, real, {}, torch.Generator().manual_seed(5))
    generator, parts = torch.Generator().manual_seed(5), []
    for _ in range(2):
        hidden = torch.cat([own, real])
        for channels in (2, 3):
            weights = torch.randn(3, channels, 3, 3, generator=generator).double() * math.sqrt(2 / (9 * channels))
            biases = torch.randn(3, generator=generator).double() * 0.1
            convolved = conv2d(hidden, weights, padding=1) + biases.view(1, 3, 1, 1)
            hidden = avg_pool2d(convolved.clamp(min=0), 2)
        parts.append(hidden.flatten(1))
    features = torch.cat(parts, dim=1)
    whole = 2 / features.shape[1] * features @ features.T + 0.01
    # The draws are float32, which the kernel scales before they are float64.
    assert_close(found.support, whole[:3, :3], terms=TERMS, dtype=torch.float32)
    assert_close(found.cross, whole[3:, :3], terms=TERMS, dtype=torch.float32)


def test_gradients_of_random_features_are_finite_differences() -> None:
    kernel, real = RandomFeatures(networks=1, filters=2, depth=1), images(2, seed=2)

    def total(items: Tensor) -> Tensor:
        support, cross = kernel.products(items, real, {}, torch.Generator().manual_seed(0))
        return support.square().sum() + cross.sum()

    assert gradcheck(total, images(2).requires_grad_(), fast_mode=True)


def pool(**changed: float) -> TrainedPool:
    settings = {"networks": 3, "rate": 0.01, "longest": 6, "batch": 100} | changed
    return TrainedPool(ConvNetFeatures(NETWORK, TorchBlocks()), NetworkPool(NETWORK, **settings))  # type: ignore[arg-type]


def soft_sampler() -> Sampler:
    made = sampler()
    memory = StoredItems(made.memory.tensors()["items"], targets=initial_targets("unbounded", 3, 2))
    return Sampler(memory, made.queries, made.real)


def test_the_kernel_of_a_pool_uses_the_features_of_its_drawn_network() -> None:
    state = pool().begin(torch.Generator().manual_seed(0)) | {"turn": torch.tensor(1)}
    parameters = {
        name.removeprefix("network."): value[1].double() for name, value in state.items() if "network." in name
    }
    own, real = images(3), images(4, seed=2)
    found = pool().products(own, real, state, NOTHING)
    mine, theirs = (NETWORK.features(parameters, part) for part in (own, real))
    assert_close(found.support, mine @ mine.T, terms=TERMS)
    assert_close(found.cross, theirs @ mine.T, terms=TERMS)


def test_after_a_step_the_drawn_network_has_trained_on_the_memory() -> None:
    made, generator = soft_sampler(), torch.Generator().manual_seed(0)
    kernel = pool()
    state = kernel.begin(generator) | {"turn": torch.tensor(2), "ages": torch.tensor([0, 0, 0])}
    parameters = {
        name.removeprefix("network."): value[2].clone().requires_grad_()
        for name, value in state.items()
        if "network." in name
    }
    learned = {name: value for name, value in parameters.items() if "convolution.bias" not in name}
    optimiser = torch.optim.Adam(learned.values(), lr=0.01)
    items, targets = support_of(made.memory.recall(torch.eye(3)))
    for _ in range(2):
        optimiser.zero_grad()
        (0.5 * (NETWORK.logits(parameters, items) - targets).square().sum(dim=1).mean()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        state = kernel.advance(made, state, generator) | {"turn": torch.tensor(2)}
    assert state["ages"].tolist() == [0, 0, 2]
    for name, value in parameters.items():
        # Adam divides by roots of squares: what rounding leaves of a small gradient decides a step of up to the rate.
        torch.testing.assert_close(state[f"network.{name}"][2], value.detach(), rtol=0, atol=2e-4)
    fresh = kernel.begin(torch.Generator().manual_seed(0))
    assert torch.equal(state["network.classifier.weight"][0], fresh["network.classifier.weight"][0])


def test_networks_of_a_pool_have_different_ages_and_are_replaced_at_the_largest() -> None:
    kernel, generator = pool(), torch.Generator().manual_seed(0)
    state = kernel.begin(generator)
    assert state["ages"].tolist() == [0, 2, 4]
    before = state["network.classifier.weight"].clone()
    old = state | {"turn": torch.tensor(1), "ages": torch.tensor([0, 6, 4])}
    after = kernel.advance(soft_sampler(), old, generator)
    assert after["ages"].tolist() == [0, 0, 4]
    assert not torch.equal(after["network.classifier.weight"][1], before[1])
    assert not after["first.classifier.weight"][1].any()
    assert torch.equal(state["network.classifier.weight"], before), "a state is not written to"
