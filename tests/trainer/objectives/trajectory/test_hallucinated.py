"""The loss of HaBa, its extractor and the steps of the extractor are their formulas, written naively in float64."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.memory import Recalled, StoredItems
from recall_server.core.networks import Parameters
from tests.tolerances import assert_close
from tests.trainer.objectives.inner_steps import INNER_STEPS
from tests.trainer.objectives.trajectory.test_trajectories import NETWORK, TERMS, doubles, matching
from trainer.objectives.inner.inner_training import Momentum
from trainer.objectives.inner.layer_features import layer_features
from trainer.objectives.queries import LabelQueries
from trainer.objectives.real_data import RealData
from trainer.objectives.sampler import Sampler
from trainer.objectives.trajectory.hallucinated import EXTRACTOR, TEMPERATURE, VELOCITY, HallucinatedTrajectories

VARIANTS = 3
CLASSES = torch.arange(3).repeat_interleave(2)  # of three classes with two bases each


def objective() -> HallucinatedTrajectories:
    trajectories = matching(INNER_STEPS["derived"](NETWORK), Momentum(0.0), torch.tensor(0.3, dtype=torch.float64))
    features = layer_features(NETWORK, torch.device("cpu"))
    return HallucinatedTrajectories(trajectories, features, difference=0.7, alike=0.4, contrast=0.3, rate=0.2)


def images(seed: int) -> Tensor:
    """[6, 1, 4, 4]: one for each base."""
    return torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum() / (one.square().sum().sqrt() * other.square().sum().sqrt())


def naive_extractor_loss(parameters: Parameters, one: Tensor, other: Tensor) -> Tensor:
    pictures, labels = torch.cat([one, other]), CLASSES.repeat(2)
    features, loss = NETWORK.features(parameters, pictures), cross_entropy(NETWORK.logits(parameters, pictures), labels)
    for base in range(6):
        loss = loss + 0.4 * (1 - cosine(features[base], features[base + 6])) / 2 / 6
    for anchor in range(12):
        others = [index for index in range(12) if index != anchor]
        similar = {index: torch.exp(cosine(features[anchor], features[index]) / TEMPERATURE) for index in others}
        positives = [index for index in others if labels[index] == labels[anchor]]
        for index in positives:
            loss = loss - 0.3 * torch.log(similar[index] / sum(similar.values())) / len(positives) / 12
    return loss


def test_images_of_one_base_are_compared_in_the_features_of_the_extractor() -> None:
    parameters, one, other = doubles(3), images(1).requires_grad_(), images(2).requires_grad_()
    features = [NETWORK.features(parameters, pictures) for pictures in (one, other)]
    expected = torch.stack([(1 + cosine(*pair)) / 2 for pair in zip(*features, strict=True)]).mean()
    found = objective().similarity(parameters, one, other)
    assert_close(found.item(), expected.item(), terms=TERMS)
    gradients = [torch.autograd.grad(loss, [one, other]) for loss in (found, expected)]
    assert_close(*gradients, terms=TERMS)


def test_the_extractor_minimises_three_losses() -> None:
    leaves = {name: value.requires_grad_() for name, value in doubles(3).items()}
    losses = [
        objective().extractor_loss(leaves, images(1), images(2), CLASSES),
        naive_extractor_loss(leaves, images(1), images(2)),
    ]
    assert_close(losses[0].item(), losses[1].item(), terms=TERMS, gain=1 / TEMPERATURE)
    found, expected = (torch.autograd.grad(loss, list(leaves.values())) for loss in losses)
    assert_close(
        found, expected, terms=TERMS, gain=1 / TEMPERATURE, size=max(float(each.abs().max()) for each in expected)
    )


def test_the_extractor_takes_a_step_with_momentum(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = StoredItems(torch.randn(3, 2 * VARIANTS, 1, 4, 4, generator=torch.Generator().manual_seed(4)))
    real = RealData.of(torch.zeros(3, 1, 4, 4), torch.arange(3), 3)
    sampler, own = Sampler(memory, LabelQueries(), real), objective()
    monkeypatch.setattr(StoredItems, "variants", VARIANTS)
    state = own.begin(torch.Generator().manual_seed(0))
    state = {name: value + 0.5 if name.startswith(VELOCITY) else value for name, value in state.items()}
    after = own.advance(sampler, state, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    recalled = sampler.draw_all(1, generator).recalled
    one, other = own.pair(recalled, VARIANTS, generator)
    leaves = {name: state[EXTRACTOR + name].clone().requires_grad_() for name in NETWORK.shapes()}
    gradients = torch.autograd.grad(own.extractor_loss(leaves, one, other, CLASSES), list(leaves.values()))
    for (name, value), gradient in zip(leaves.items(), gradients, strict=True):
        assert_close(after[VELOCITY + name], 0.45 + gradient, terms=TERMS, gain=1 / TEMPERATURE)
        assert_close(
            after[EXTRACTOR + name], value.detach() - 0.2 * (0.45 + gradient), terms=TERMS, gain=1 / TEMPERATURE
        )


def test_two_different_hallucinators_make_the_images_of_a_pair() -> None:
    numbered = torch.arange(3.0 * 2 * VARIANTS).view(3, 2 * VARIANTS, 1, 1, 1)
    recalled = Recalled(numbered, torch.eye(3).unsqueeze(1))
    seen = set()
    for seed in range(20):
        one, other = objective().pair(recalled, VARIANTS, torch.Generator().manual_seed(seed))
        assert (one // VARIANTS).flatten().tolist() == (other // VARIANTS).flatten().tolist() == [0, 1, 2, 3, 4, 5]
        first, second = (one % VARIANTS).unique(), (other % VARIANTS).unique()
        assert first.numel() == second.numel() == 1
        seen.add((first.item(), second.item()))
    assert seen <= set(itertools.permutations(range(VARIANTS), 2))
    assert len(seen) > 3


def test_each_step_of_training_sees_one_hallucinator() -> None:
    numbered = torch.arange(18.0).view(3, 6, 1, 1, 1).expand(3, 6, 1, 4, 4).double()
    recalled = Recalled(numbered, torch.eye(3, dtype=torch.float64).unsqueeze(1))
    trajectories = replace(objective().trajectories, steps=40)
    batches, targets = trajectories._minibatches(recalled, torch.Generator().manual_seed(0), VARIANTS)
    for batch, target in zip(batches[:, :, 0, 0, 0], targets, strict=True):
        assert sorted((batch // VARIANTS).tolist()) == [0, 1, 2, 3, 4, 5]
        assert len((batch % VARIANTS).unique()) == 1
        assert torch.equal(target.argmax(dim=1), batch.long() // (2 * VARIANTS))
    assert len((batches % VARIANTS).unique()) == VARIANTS
