"""Trajectory matching is its formula, unrolled naively in float64; with constant weights, TESLA's sum of gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

from recall_server.core.memory import Recalled
from recall_server.core.networks import ConvNet, Parameters
from tests.tolerances import assert_close, magnitude
from tests.trainer.objectives.inner_steps import INNER_STEPS
from trainer.methods.named import compose
from trainer.objectives.inner.inner_training import AbstractInnerTraining, ConstantWeights, Momentum
from trainer.objectives.inner.steps.step import AbstractInnerStep
from trainer.objectives.trajectory.experts import Experts, Segment
from trainer.objectives.trajectory.matching import RATE, TrajectoryMatching

NETWORK = ConvNet(channels=1, height=4, width=4, classes=3, filters=2, depth=2)
STEPS, TERMS = 3, 3 * 6 * 4 * 4 * 9  # steps, items, pixels, and products of a convolution


def doubles(seed: int) -> Parameters:
    generator = torch.Generator().manual_seed(seed)
    return {name: value.double() for name, value in NETWORK.initialise(generator).items()}


def items(seed: int = 1) -> Tensor:
    """[3, 2, 1, 4, 4]: two items of three classes."""
    return torch.randn(3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def recalled(stored: Tensor) -> Recalled:
    return Recalled(stored, torch.eye(3, dtype=torch.float64).unsqueeze(1))


SEGMENT = Segment(doubles(0), {name: value + 0.1 * doubles(1)[name] for name, value in doubles(0).items()})


def matching(
    step: AbstractInnerStep, training: AbstractInnerTraining, rate: Tensor, batch: int = 0
) -> TrajectoryMatching:
    experts = Experts(NETWORK, (Path("none"),), 1)
    return TrajectoryMatching(step, training, experts, rate, STEPS, expert_epochs=1, latest_start=1, batch=batch)


def distance(one: Parameters, other: Parameters) -> Tensor:
    return torch.stack([((one[name] - other[name]) ** 2).sum() for name in one]).sum()


def naive_gradient(weights: Parameters, pictures: Tensor, create_graph: bool) -> Parameters:
    loss = cross_entropy(NETWORK.logits(weights, pictures), torch.arange(3).repeat_interleave(2))
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph), strict=True))


def test_the_loss_is_the_remaining_share_of_the_distance_with_its_gradient(step: AbstractInnerStep) -> None:
    """Naive unrolling of full batches: the order within one does not matter."""
    stored, rate = items().requires_grad_(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    weights = {name: value.clone().requires_grad_() for name, value in SEGMENT.start.items()}
    for _ in range(STEPS):
        found = naive_gradient(weights, stored.flatten(0, 1), create_graph=True)
        weights = {name: value - rate * found[name] for name, value in weights.items()}
    loss = distance(weights, SEGMENT.target) / distance(SEGMENT.start, SEGMENT.target)
    expected = torch.autograd.grad(loss, [stored, rate])

    mine, own_rate = items().requires_grad_(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    objective = matching(step, Momentum(0.0), own_rate)
    found_loss = objective.compare(recalled(mine), SEGMENT, torch.Generator().manual_seed(0))
    assert_close(found_loss.item(), loss.item(), terms=TERMS)
    found_gradient = torch.autograd.grad(found_loss, [mine, own_rate])
    assert_close(found_gradient, expected, terms=TERMS, size=magnitude(expected))


def test_the_gradient_is_that_of_finite_differences(step: AbstractInnerStep) -> None:
    def loss(stored: Tensor, rate: Tensor) -> Tensor:
        objective = matching(step, Momentum(0.0), rate, batch=4)
        return objective.compare(recalled(stored), SEGMENT, torch.Generator().manual_seed(0))

    inputs = items().requires_grad_(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(loss, inputs, fast_mode=True)


def test_with_constant_weights_each_gradient_depends_only_on_its_minibatch(step: AbstractInnerStep) -> None:
    """The two terms of TESLA: 2 rate (target - start + rate * sum of gradients) . d gradient_i / d images."""
    stored, rate = items().requires_grad_(), 0.3
    weights, found = [SEGMENT.start], []
    for _ in range(STEPS):
        leaves = {name: value.detach().requires_grad_() for name, value in weights[-1].items()}
        found.append(naive_gradient(leaves, stored.flatten(0, 1), create_graph=True))
        weights.append({name: value - rate * found[-1][name].detach() for name, value in weights[-1].items()})
    expected = torch.zeros_like(stored)
    for own in found:
        total = {name: sum(each[name].detach() for each in found) for name in own}
        direction = {name: SEGMENT.target[name] - SEGMENT.start[name] + rate * total[name] for name in own}
        product = torch.stack([(direction[name] * own[name]).sum() for name in own]).sum()
        expected += 2 * rate * torch.autograd.grad(product, stored)[0]
    expected /= distance(SEGMENT.start, SEGMENT.target)

    mine, own_rate = items().requires_grad_(), torch.tensor(rate, dtype=torch.float64, requires_grad=True)
    objective = matching(step, ConstantWeights(), own_rate)
    loss = objective.compare(recalled(mine), SEGMENT, torch.Generator().manual_seed(0))
    gradient, of_rate = torch.autograd.grad(loss, [mine, own_rate])
    assert_close(
        loss.item(),
        (distance(weights[-1], SEGMENT.target) / distance(SEGMENT.start, SEGMENT.target)).item(),
        terms=TERMS,
    )
    assert_close(gradient, expected, terms=TERMS)
    summed = {name: sum(each[name].detach() for each in found) for name in found[0]}
    left = {name: weights[-1][name] - SEGMENT.target[name] for name in summed}
    slope = -2 * sum((left[name] * summed[name]).sum() for name in summed)
    assert_close(of_rate.item(), float(slope / distance(SEGMENT.start, SEGMENT.target)), terms=TERMS)


def test_minibatches_use_every_item_once_before_repeating() -> None:
    objective = matching(INNER_STEPS["derived"](NETWORK), Momentum(0.0), torch.tensor(0.1), batch=2)
    numbered = torch.arange(6.0).view(3, 2, 1, 1, 1).expand(3, 2, 1, 4, 4).double()
    for seed in range(5):
        batches, targets = objective._minibatches(recalled(numbered), torch.Generator().manual_seed(seed))
        assert batches.shape == (STEPS, 2, 1, 4, 4)
        assert sorted(batches[:, :, 0, 0, 0].flatten().tolist()) == list(range(6))
        assert torch.equal(targets.argmax(dim=2), batches[:, :, 0, 0, 0].long() // 2)
    uneven, _ = matching(INNER_STEPS["derived"](NETWORK), Momentum(0.0), torch.tensor(0.1), batch=4)._minibatches(
        recalled(numbered), torch.Generator().manual_seed(0)
    )
    assert uneven.shape == (STEPS, 4, 1, 4, 4)
    assert all(len(set(batch.tolist())) == 4 for batch in uneven[:, :, 0, 0, 0])


def test_a_learned_step_size_is_stored_in_the_bundles_schedule() -> None:
    schedule = compose("mtt").retraining
    objective = matching(INNER_STEPS["derived"](NETWORK), Momentum(0.0), torch.tensor(0.1))
    assert set(objective.learned()) == {RATE}
    assert objective.retraining(schedule, {}) == schedule
    assert objective.retraining(schedule, {RATE: torch.tensor(0.05)}).learning_rate == pytest.approx(0.05)
    assert objective.retraining(schedule, {RATE: torch.tensor(-1.0)}).learning_rate > 0, "what a manifest takes"
