"""The loss some steps ahead of a network that learns the memory, written out naively in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import gradcheck

from recall_server.core.memory import Recalled
from tests.tolerances import assert_close
from tests.trainer.objectives.matching.matching_examples import NETWORK, TERMS, batch, images, sampler
from trainer.objectives import OuterBatch
from trainer.objectives.inner.network_pool import NetworkPool
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep
from trainer.objectives.inner.steps.step import soft_cross_entropy
from trainer.objectives.unrolled.steps_ahead import StepsAhead

GENERATOR = torch.Generator
GAIN = 100  # two steps, each through the norms of a network


def objective(steps: int = 2, items: int = 4) -> StepsAhead:
    pool = NetworkPool(NETWORK, 1, 1e-3, 5, 100, soft_cross_entropy)
    return StepsAhead(DifferentiatedStep(NETWORK, compiled=False), pool, steps, rate=0.1, batch=items, real_batch=9)


def state(made: StepsAhead) -> dict[str, Tensor]:
    """In float64."""
    begun = made.begin(GENERATOR().manual_seed(0))
    return {name: value.double() if value.is_floating_point() else value for name, value in begun.items()}


def targets() -> Tensor:
    return torch.rand(3, 2, 3, generator=GENERATOR().manual_seed(5), dtype=torch.float64).softmax(dim=2)


def learned(targets: Tensor) -> OuterBatch:
    hard = batch(images(3, 2), images(3, 4, seed=2))
    return OuterBatch(Recalled(hard.recalled.items, targets), hard.items, hard.targets)


def test_it_is_the_loss_on_real_items_after_steps_of_gradient_descent() -> None:
    made = objective()
    given, begun = learned(targets()), state(made)
    found = made.score(given, begun, GENERATOR().manual_seed(1))
    rows = torch.rand(2, 6, generator=GENERATOR().manual_seed(1)).argsort(dim=1)[:, :4]
    parameters = {name: value.requires_grad_() for name, value in made.pool.parameters(begun).items()}
    for index in rows:
        items, wanted = given.recalled.items.flatten(0, 1)[index], given.recalled.targets.flatten(0, 1)[index]
        loss = -(wanted * NETWORK.logits(parameters, items).log_softmax(dim=1)).sum() / 4
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        parameters = {name: p - 0.1 * g for (name, p), g in zip(parameters.items(), gradients, strict=True)}
    logits = NETWORK.logits(parameters, given.items)
    expected = -(given.targets * logits.log_softmax(dim=1)).sum() / len(logits)
    assert_close(found, expected.detach(), terms=TERMS, gain=GAIN)


def test_its_gradient_for_the_targets_is_that_of_finite_differences() -> None:
    made = objective(steps=1)
    begun = state(made)
    assert gradcheck(
        lambda values: made.score(learned(values), begun, GENERATOR().manual_seed(1)),
        targets().requires_grad_(),
        fast_mode=True,
        atol=1e-6,
    )


def test_the_network_goes_on_learning_what_is_recalled() -> None:
    made, generator = objective(), GENERATOR().manual_seed(0)
    kept = made.begin(generator)
    before = kept["network.classifier.weight"].clone()
    for _ in range(3):
        kept = made.advance(sampler(), kept, generator)
    assert kept["ages"].tolist() == [3]
    assert not torch.equal(kept["network.classifier.weight"], before)
