"""A linear head is a memory: the server's training recovers it, for all classes and for some of them."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.preprocessing import Standardise
from tests.tolerances import assert_close
from trainer.starts.exact_head import Head, exact_memory, softmax_head

CLASSES, WIDTH = 5, 9


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % CLASSES
    means = torch.randn(CLASSES, WIDTH, generator=generator)
    return means[labels] + torch.randn(200, WIDTH, generator=generator), labels


def served(head: Head, chosen: list[int], pictures: torch.Tensor) -> torch.Tensor:
    """Probabilities of the classifier that a server trains for the chosen classes."""
    preprocessing = Standardise(torch.linspace(-1, 1, WIDTH), torch.linspace(0.5, 2, WIDTH))
    memory, moved, schedule = exact_memory(head, preprocessing)
    items, targets = memory.recall(torch.eye(CLASSES)[chosen])
    classifier = FreshClassifier([str(each) for each in chosen], (WIDTH, 1, 1), moved, schedule)
    classifier.fit(items[..., None, None], targets)
    return classifier.predict_probabilities(preprocessing.to_pixels(pictures[:, :, None, None]))


def test_training_recovers_the_head_with_its_bias() -> None:
    features, labels = data()
    head = softmax_head(features, labels, CLASSES, 0.01)
    found = served(head, list(range(CLASSES)), features)
    assert_close(found, head.logits(features).softmax(dim=1), terms=100, gain=10)


def test_for_some_classes_training_recovers_their_columns_up_to_a_factor() -> None:
    features, labels = data()
    head = softmax_head(features, labels, CLASSES, 0.1)
    found = served(head, [4, 1], features)
    expected = (CLASSES / 2 * head.logits(features)[:, [4, 1]]).softmax(dim=1)
    assert_close(found, expected, terms=100, gain=10)


def test_the_softmax_head_is_the_minimum() -> None:
    features, labels = (each.double() if each.is_floating_point() else each for each in data())
    head = softmax_head(features, labels, CLASSES, 0.1, steps=300)
    weights = head.weights.requires_grad_()
    loss = cross_entropy(features @ weights + head.bias, labels) + 0.05 * weights.square().sum()
    assert float(torch.autograd.grad(loss, weights)[0].abs().max()) < 1e-5
