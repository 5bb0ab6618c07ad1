"""The loss of heads: a weighted mean, and half the squared length of what costs something."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from recall_server.core.training.heads.loss import equal_class_shares, head_loss
from tests.tolerances import assert_close

LABELS = torch.tensor([0, 2, 2, 2])


def test_costs_are_half_squared_lengths_and_equal_shares_change_nothing() -> None:
    logits, weights = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    expected = cross_entropy(logits, LABELS) + 0.1 * weights.square().sum() + weights[0].square().sum()
    for shares in (None, torch.full((4,), 0.25).double()):
        found = head_loss(logits, LABELS, (0.2, weights), (2.0, weights[0]), shares=shares)
        assert_close(found, expected, terms=12)


def test_every_class_that_has_items_counts_the_same() -> None:
    shares = equal_class_shares(LABELS, 3)
    assert_close(shares, torch.tensor([1 / 3, 1 / 9, 1 / 9, 1 / 9]))
