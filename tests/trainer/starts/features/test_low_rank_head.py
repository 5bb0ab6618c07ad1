"""A head of low rank is better trained than cut off, and of full rank it is the head."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from tests.tolerances import assert_close
from tests.trainer.starts.features.test_described_classes import CLASSES, WIDTH, data
from trainer.starts.features.linear_head import softmax_head
from trainer.starts.features.low_rank_head import low_rank_factors, truncated


def test_factors_of_full_rank_are_the_head() -> None:
    train = data()
    head = softmax_head(train.features, train.labels, CLASSES, 0.1, bias=False)
    left, right = truncated(head, train.features, CLASSES)
    assert_close(left @ right, head.weights - head.weights.mean(dim=0), terms=WIDTH, gain=100)


def test_training_lowers_the_loss_of_what_is_cut_off() -> None:
    train = data()
    head = softmax_head(train.features, train.labels, CLASSES, 0.1, bias=False)
    left, right = truncated(head, train.features, 2)
    trained = low_rank_factors(head, train, 2, 0.1)
    losses = [
        float(cross_entropy(train.features @ b.T @ a.T, train.labels) + 0.05 * (a @ b).square().sum())
        for a, b in (trained, (left, right))
    ]
    assert losses[0] < losses[1]
    assert_close(trained[1] @ trained[1].T, torch.eye(2), terms=WIDTH)
