"""The linear head is the minimum of its loss, with a bias or without."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

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
