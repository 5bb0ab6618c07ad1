"""The linear head is the minimum of its loss, with a bias or without."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from recall_server.core.classifier.class_statistics import LinearHead
from trainer.starts.features.linear_head import softmax_head

CLASSES, WIDTH = 5, 9


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % CLASSES
    means = torch.randn(CLASSES, WIDTH, generator=generator)
    return means[labels] + torch.randn(200, WIDTH, generator=generator), labels


def test_the_softmax_head_is_the_minimum() -> None:
    features, labels = (each.double() if each.is_floating_point() else each for each in data())
    head = softmax_head(features, labels, CLASSES, 0.1, steps=300)
    weights = head.weights.requires_grad_()
    loss = cross_entropy(features @ weights.T + head.bias, labels) + 0.05 * weights.square().sum()
    assert float(torch.autograd.grad(loss, weights)[0].abs().max()) < 1e-5


def test_a_head_without_bias_has_none() -> None:
    features, labels = data()
    head = softmax_head(features, labels, CLASSES, 0.1, bias=False)
    assert not head.bias.any()
    assert (head.logits(features).argmax(dim=1) == labels).float().mean() > 0.5


def test_a_balanced_head_does_not_depend_on_how_frequent_its_classes_are() -> None:
    features, labels = data()
    often = torch.cat([torch.arange(200), *[torch.nonzero(labels == 0).flatten()] * 9])  # ten of each of class 0
    equal = softmax_head(features, labels, CLASSES, 0.1, steps=300)
    plain, balanced = (
        softmax_head(features[often], labels[often], CLASSES, 0.1, steps=300, balance=balance) for balance in (0.0, 1.0)
    )

    def share(head: LinearHead) -> float:
        return float((head.logits(features).argmax(dim=1) == 0).float().mean())

    assert share(plain) > share(equal) + 0.05
    assert abs(share(balanced) - share(equal)) < (share(plain) - share(equal)) / 2


def test_the_balance_of_equally_frequent_classes_changes_nothing() -> None:
    features, labels = data()
    heads = [softmax_head(features.double(), labels, CLASSES, 0.1, balance=balance).weights for balance in (0.0, 1.0)]
    assert torch.allclose(*heads, atol=1e-6)
