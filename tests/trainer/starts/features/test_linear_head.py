"""The linear head is the minimum of its loss, with a bias or without."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from recall_server.core.classifier.class_statistics import LinearHead
from tests.tolerances import assert_close
from trainer.starts.features.linear_head import TOLERANCE, softmax_head

CLASSES, WIDTH, RIDGE = 5, 9, 0.1


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % CLASSES
    means = torch.randn(CLASSES, WIDTH, generator=generator)
    return means[labels] + torch.randn(200, WIDTH, generator=generator), labels


def loss_of(head: LinearHead, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(head.logits(features), labels) + RIDGE / 2 * head.weights.square().sum()


def test_the_softmax_head_is_as_low_as_the_tolerance_promises() -> None:
    """A loss with a ridge is at most |gradient|^2 / (2 ridge) above its lowest."""
    features, labels = data()
    head = softmax_head(features.double(), labels, CLASSES, RIDGE, bias=False)
    loss = loss_of(LinearHead(head.weights.requires_grad_(), head.bias), features.double(), labels)
    above = torch.autograd.grad(loss, head.weights)[0].square().sum() / (2 * RIDGE)
    assert float(above) < 2 * TOLERANCE * float(loss.detach())


def test_a_head_goes_on_from_another() -> None:
    features, labels = data()
    first = softmax_head(features, labels, CLASSES, RIDGE)
    again = softmax_head(features, labels, CLASSES, RIDGE, start=first)
    before, after = (float(loss_of(head, features, labels)) for head in (first, again))
    assert before - 3 * TOLERANCE * before < after <= before


def test_a_head_without_bias_has_none() -> None:
    features, labels = data()
    head = softmax_head(features, labels, CLASSES, RIDGE, bias=False)
    assert not head.bias.any()
    assert (head.logits(features).argmax(dim=1) == labels).float().mean() > 0.5


def test_a_balanced_head_does_not_depend_on_how_frequent_its_classes_are() -> None:
    features, labels = data()
    often = torch.cat([torch.arange(200), *[torch.nonzero(labels == 0).flatten()] * 9])  # ten of each of class 0
    equal = softmax_head(features, labels, CLASSES, RIDGE)
    plain, balanced = (
        softmax_head(features[often], labels[often], CLASSES, RIDGE, balance=balance) for balance in (0.0, 1.0)
    )

    def share(head: LinearHead) -> float:
        return float((head.logits(features).argmax(dim=1) == 0).float().mean())

    assert share(plain) > share(equal) + 0.05
    assert abs(share(balanced) - share(equal)) < (share(plain) - share(equal)) / 2


def test_the_balance_of_equally_frequent_classes_changes_nothing() -> None:
    features, labels = data()
    heads = [softmax_head(features.double(), labels, CLASSES, RIDGE, balance=balance).weights for balance in (0.0, 1.0)]
    assert_close(*heads, terms=200)
