"""Leaving out an item says what a training without the item would have given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.networks.spec import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.heads.leave_one_out import leave_one_out, log_odds
from recall_server.core.training.minibatches import minibatches
from recall_server.core.training.retraining import Retraining, learning_rate
from tests.tolerances import assert_close

WIDTH, CLASSES, ROWS = 7, 3, 4
SCHEDULES: dict[str, dict[str, Any]] = {
    "one step": {"steps": 1, "learning_rate": 3.0},
    "one step of drawn rows": {"steps": 1, "rows_per_class": 2},
    "momentum": {"steps": 30},
    "drawn rows": {"steps": 12, "rows_per_class": 2},
    "rows in sequence": {"steps": 5, "rows_per_class": 3, "order": "sequence"},
    "weight decay and a falling rate": {"steps": 9, "weight_decay": 0.1, "decay": "cosine"},
    "squared error": {"steps": 6, "learning_rate": 0.05, "loss": "squared_error"},
    "one step of the squared error": {"steps": 1, "learning_rate": 0.05, "loss": "squared_error"},
    "rates of single steps": {"steps": 4, "rates": (0.5, 0.1)},
}


def schedule(**changed: Any) -> Retraining:
    network = NetworkSpec(architecture="linear")
    return Retraining(**{"network": network, "steps": 5, "learning_rate": 0.3, "rows_per_class": ROWS} | changed)


def training_set(rows: int = ROWS, *, soft: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Items [q, r, D, 1, 1], targets [q, 1 or r, k], and features [D]."""
    generator = torch.Generator().manual_seed(rows)
    items = torch.randn(CLASSES, rows, WIDTH, 1, 1, generator=generator)
    targets = torch.eye(CLASSES).unsqueeze(1)
    if soft:
        targets = torch.rand(CLASSES, rows, CLASSES, generator=generator).softmax(dim=-1)
    return items, targets, torch.randn(WIDTH, generator=generator)


def retrained_logits(
    training_set: tuple[Tensor, Tensor, Tensor], retraining: Retraining, seed: int, left_out: int | None
) -> Tensor:
    """The logits [k] after SGD in float64 on weights [k, D], by autograd, without one of the items."""
    items, targets, features = training_set
    queries, rows = items.shape[:2]
    numbers = torch.arange(queries * rows).double().view(queries, rows, 1, 1, 1)
    flat, aims = items.double().flatten(0, 1).flatten(1), targets.double().expand(-1, rows, -1).flatten(0, 1)
    weights = torch.zeros(CLASSES, WIDTH, dtype=torch.double, requires_grad=True)
    bias = torch.zeros(CLASSES, dtype=torch.double, requires_grad=True)
    parameters, velocity = [weights, bias], [torch.zeros_like(weights), torch.zeros_like(bias)]
    drawn = minibatches(numbers, torch.zeros(queries, 1, 1), retraining, torch.Generator().manual_seed(seed))
    for done, (batch, _) in zip(range(retraining.steps), drawn, strict=False):
        chosen = [at for at in batch.flatten().long().tolist() if at != left_out]
        logits = flat[chosen] @ weights.T + bias
        if retraining.loss == "cross_entropy":
            loss = cross_entropy(logits, aims[chosen])
        else:
            loss = (logits - aims[chosen]).square().sum(dim=1).mean() / 2
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for values, speed, gradient in zip(parameters, velocity, gradients, strict=True):
                speed.mul_(retraining.momentum).add_(gradient + retraining.weight_decay * values)
                values.sub_(learning_rate(retraining, done) * speed)
    return (weights @ features.double() + bias).detach()


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("changed", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_it_is_what_retraining_without_the_item_gives(changed: dict[str, Any], soft: bool) -> None:
    retraining, (items, targets, features) = schedule(**changed), training_set(soft=soft)
    found = leave_one_out(items, targets, retraining, seed=4)
    logits, without = found.logits(features)
    reference = [
        retrained_logits((items, targets, features), retraining, 4, left_out) for left_out in range(CLASSES * ROWS)
    ]
    roundings = {"terms": 2 * WIDTH * CLASSES * ROWS * retraining.steps, "gain": 10.0}
    assert_close(logits, retrained_logits((items, targets, features), retraining, 4, None), **roundings)
    assert_close(without, torch.stack(reference), **roundings)
    weights, bias = found.weights()
    assert_close(weights @ features.double() + bias, logits, **roundings)


def test_it_agrees_with_the_classifier_that_is_trained(steps: int = 20) -> None:
    items, targets, features = training_set(rows=1)
    retraining = schedule(steps=steps, rows_per_class=1)
    _, without = leave_one_out(items, targets, retraining, seed=0).logits(features)
    space = Standardise(torch.zeros(WIDTH), torch.ones(WIDTH))
    for left_out in range(CLASSES):
        kept = [at for at in range(CLASSES) if at != left_out]
        classifier = FreshClassifier([f"class {at}" for at in range(CLASSES)], (WIDTH, 1, 1), space, retraining)
        head = classifier.fit(items[kept], targets[kept]).linear_head()
        expected = head.logits(features.unsqueeze(0))[0]
        assert_close(without[left_out].float(), expected, terms=2 * WIDTH * steps, gain=10.0)


def test_an_item_that_was_never_drawn_changes_nothing() -> None:
    items, targets, features = training_set()
    found = leave_one_out(items, targets, schedule(steps=1, rows_per_class=1), seed=0)
    logits, without = found.logits(features)
    assert int((without == logits).all(dim=1).sum()) == CLASSES * (ROWS - 1)


def test_log_odds_are_those_of_the_probability() -> None:
    logits = torch.tensor([[1.0, 0.5, -2.0], [30.0, 0.0, 0.0]], dtype=torch.double)
    probability = logits[0].softmax(dim=0)[1]
    assert_close(log_odds(logits, 1)[0], (probability / (1 - probability)).log(), terms=6)
    assert float(log_odds(logits, 0)[1]) == pytest.approx(30 - torch.log(torch.tensor(2.0)).item())


@pytest.mark.parametrize(
    "changed",
    [{"network": NetworkSpec(architecture="mlp")}, {"augmentation": "flip"}, {"steps": 100_000}],
    ids=["network", "augmentation", "steps"],
)
def test_what_cannot_be_exact_or_quick_is_refused(changed: dict[str, Any]) -> None:
    items, targets, _ = training_set(rows=40)
    with pytest.raises(ValueError, match="only linear heads|takes too long"):
        leave_one_out(items, targets, schedule(**changed), seed=0)
