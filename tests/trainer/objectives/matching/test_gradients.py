"""Gradient matching is its formula, written out naively in float64, and has the gradient of finite differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

from recall_server.core.networks import MLP, Parameters
from tests.tolerances import assert_close
from tests.trainer.objectives.inner_steps import INNER_STEPS
from tests.trainer.objectives.matching.matching_examples import NETWORK, TERMS, batch, doubles, images, sampler
from trainer.objectives.inner.steps.step import AbstractInnerStep
from trainer.objectives.matching.distances import distance
from trainer.objectives.matching.gradients import GradientMatching
from trainer.objectives.matching.networks import MATCHINGS, NETWORKS, FreshNetworks

GAIN = 100  # of a distance between gradients: rows that almost vanish have directions all the same


def matching(step: AbstractInnerStep) -> GradientMatching:
    return GradientMatching(step=step, networks=FreshNetworks(NETWORK), real_per_class=5)


def naive_gradient(parameters: Parameters, pictures: Tensor, label: int | Tensor) -> Parameters:
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    labels = torch.full((len(pictures),), label) if isinstance(label, int) else label
    loss = cross_entropy(NETWORK.logits(leaves, pictures), labels)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def naive_distance(one: Parameters, other: Parameters, kind: str, convolutions: bool = False) -> float:
    """Row by row, number by number, without biases and norms."""
    total = 0.0
    for name, value in one.items():
        if value.ndim == 1 or (convolutions and value.ndim == 2):
            continue
        for mine, theirs in zip(value.flatten(1).tolist(), other[name].flatten(1).tolist(), strict=True):
            if kind == "cosine":
                product = sum(a * b for a, b in zip(mine, theirs, strict=True))
                norms = sum(a * a for a in mine) ** 0.5 * sum(b * b for b in theirs) ** 0.5
                total += 1 - product / (norms + 1e-6)
            else:
                differences = [a - b for a, b in zip(mine, theirs, strict=True)]
                total += sum(d * d for d in differences) if kind == "squared" else sum(map(abs, differences))
    return total


@pytest.mark.parametrize("kind", ["cosine", "squared", "absolute"])
@pytest.mark.parametrize("layers", ["weights", "convolutions"])
def test_the_loss_is_the_distance_of_the_gradients_of_each_class(
    step: AbstractInnerStep, kind: str, layers: str
) -> None:
    parameters, recalled, real = doubles(), images(3, 2), images(3, 5, seed=2)
    objective = replace(matching(step), distance=kind, layers=layers)
    found = objective.compare(batch(recalled, real), parameters, torch.Generator().manual_seed(0))
    expected = sum(
        naive_distance(
            naive_gradient(parameters, recalled[label], label),
            naive_gradient(parameters, real[label], label),
            kind,
            layers == "convolutions",
        )
        for label in range(3)
    )
    assert_close(found.item(), expected, terms=TERMS, gain=GAIN)


def test_contrastive_signals_compare_the_mean_gradient_over_classes(step: AbstractInnerStep) -> None:
    parameters, recalled, real = doubles(), images(3, 2), images(3, 5, seed=2)
    found = matching(step).compare(batch(recalled, real), parameters, torch.Generator().manual_seed(0), contrast=True)
    labels = torch.arange(3)
    one = naive_gradient(parameters, recalled.flatten(0, 1), labels.repeat_interleave(2))
    other = naive_gradient(parameters, real.flatten(0, 1), labels.repeat_interleave(5))
    assert_close(found.item(), naive_distance(one, other, "cosine"), terms=TERMS, gain=GAIN)


@pytest.mark.parametrize("kind", ["cosine", "squared"])
@pytest.mark.parametrize("contrast", [False, True])
def test_the_loss_has_the_gradient_of_finite_differences(step: AbstractInnerStep, kind: str, contrast: bool) -> None:
    parameters, real = doubles(), images(3, 5, seed=2)
    objective = replace(matching(step), distance=kind)

    def loss(recalled: Tensor) -> Tensor:
        return objective.compare(batch(recalled, real), parameters, torch.Generator().manual_seed(0), contrast=contrast)

    assert gradcheck(loss, images(3, 2).requires_grad_(), fast_mode=True)


def test_both_sides_see_the_same_transform() -> None:
    same = images(3, 2)
    step = INNER_STEPS["derived"](NETWORK)
    objective = replace(matching(step), augmentation=("color|crop|cutout|flip|scale|rotate",))
    for seed in range(5):
        found = objective.compare(batch(same, same), doubles(), torch.Generator().manual_seed(seed))
        assert found < 1e-3, "gradients of equal items are equal, but for the epsilon of the cosine"


def test_contrast_begins_with_a_network_or_after_ten_comparisons_at_one() -> None:
    objective = replace(matching(INNER_STEPS["derived"](NETWORK)), contrast_from=3)
    ages = [(2, 9), (2, 10), (3, 0)]
    states = [{NETWORKS: torch.tensor(networks), MATCHINGS: torch.tensor(matchings)} for networks, matchings in ages]
    assert [objective._contrast(state) for state in states] == [False, True, True]
    assert not replace(objective, contrast_from=None)._contrast(states[2])


def test_a_network_without_convolutions_cannot_be_compared_by_them() -> None:
    network = MLP(channels=2, height=8, width=10, classes=3, hidden=5, depth=1)
    parameters = doubles(network)
    assert distance(parameters, parameters, "squared", "weights") == 0
    with pytest.raises(ValueError, match="no convolutions whose gradients could be compared; use layers=weights"):
        distance(parameters, parameters, "squared", "convolutions")


def test_a_loss_draws_its_own_real_items_and_a_fresh_network() -> None:
    objective = matching(INNER_STEPS["derived"](NETWORK))
    losses = [
        objective.loss(sampler(), objective.begin(torch.Generator()), torch.Generator().manual_seed(seed)).item()
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]
