"""Training a linear head on vectors: as the server does it, and with the exact gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.preprocessing import Standardise
from tests.tolerances import assert_close
from trainer.starts.features.linear_unroll import gradient, train_head
from trainer.starts.features.trained_features import Labelled, Schedule, TrainedVectors, retraining, train_vectors

STEPS, MOMENTUM, RATE = 7, 0.9, 0.3


def problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors with their targets, and real features with their labels, in float64."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(6, 5, dtype=torch.float64, generator=generator)
    targets = one_hot(torch.tensor([0, 0, 1, 1, 2, 2]), 3).double()
    features = torch.randn(20, 5, dtype=torch.float64, generator=generator)
    return vectors, targets, features, torch.arange(20) % 3


def loss_by_weights(vectors: Tensor, rate: Tensor) -> Tensor:
    """The loss on real features after training the weights themselves, step by step."""
    _, targets, features, labels = problem()
    inputs = torch.cat([vectors, torch.ones(6, 1, dtype=torch.float64)], dim=1)
    weights = velocity = torch.zeros(6, 3, dtype=torch.float64)
    for _ in range(STEPS):
        velocity = MOMENTUM * velocity + inputs.T @ ((inputs @ weights).softmax(dim=1) - targets) / 6
        weights = weights - rate * velocity
    return cross_entropy(features @ weights[:-1] + weights[-1], labels)


def test_the_gradient_is_that_of_all_steps_of_training() -> None:
    vectors, targets, features, labels = problem()
    head = train_head(vectors, targets, RATE, steps=STEPS, momentum=MOMENTUM)
    error = (head.logits(features).softmax(dim=1) - one_hot(labels, 3)) / 20
    found = gradient(vectors, head, RATE, momentum=MOMENTUM, weights=features.T @ error, bias=error.sum(dim=0))
    leaves = vectors.clone().requires_grad_(), torch.tensor(RATE, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(loss_by_weights(*leaves), leaves)
    assert_close(found.vectors, expected[0], terms=1000)
    assert_close(found.rate, expected[1], terms=1000)


def test_the_server_trains_the_head_that_was_measured() -> None:
    vectors, targets, features, _ = (each.float() if each.is_floating_point() else each for each in problem())
    head = train_head(vectors, targets, RATE, steps=STEPS, momentum=MOMENTUM)
    schedule = retraining(TrainedVectors(vectors.view(3, 2, 5), RATE, 0.0), Schedule(steps=STEPS, momentum=MOMENTUM))
    identity = Standardise(torch.zeros(5), torch.ones(5))
    classifier = FreshClassifier(["a", "b", "c"], (5, 1, 1), identity, schedule)
    classifier.fit(vectors.view(3, 2, 5, 1, 1), torch.eye(3))
    probabilities = classifier.predict_probabilities(features[:, :, None, None])
    assert_close(probabilities, head.logits(features).softmax(dim=1), terms=1000)


def test_the_best_vectors_are_kept_and_they_are_better_than_those_at_the_start() -> None:
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(4, 6, generator=generator)
    labels = torch.arange(400) % 4
    stretch = torch.tensor([5.0, 5.0, 0.3, 0.3, 0.3, 0.3])  # class means alone point the wrong way
    features = means[labels] + stretch * torch.randn(400, 6, generator=generator)
    start = torch.stack([features[labels == label].mean(dim=0) for label in range(4)]).unsqueeze(1)
    seen: list[float] = []
    schedule = Schedule(steps=10, outer_steps=60, batch=200, subsets=0.3)
    real, validation = Labelled(features[:300], labels[:300]), Labelled(features[300:], labels[300:])
    first = train_vectors(start, real, validation, Schedule(outer_steps=0), generator=generator)
    found = train_vectors(
        start, real, validation, schedule, generator=generator, observe=lambda step, accuracy: seen.append(accuracy)
    )
    assert found.accuracy == max(*seen, first.accuracy) > first.accuracy + 0.1
