"""The loss of linear heads: cross-entropy in which items have shares, and what the weights cost."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def head_loss(logits: Tensor, labels: Tensor, *costs: tuple[float, Tensor], shares: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits [n, k] for labels [n], plus cost / 2 |tensor|^2 for each of `costs`.

    An item counts with its share [n]; without shares, all items count the same and the shares sum to one.
    """
    if shares is None:
        value = cross_entropy(logits, labels)
    else:
        value = (shares * cross_entropy(logits, labels, reduction="none")).sum()
    for cost, tensor in costs:
        value = value + cost / 2 * tensor.square().sum()
    return value


def equal_class_shares(labels: Tensor, classes: int) -> Tensor:
    """Shares [n] of items, so that each of the `classes` counts the same and all shares sum to one."""
    counts = torch.bincount(labels, minlength=classes)
    return 1 / (classes * counts[labels].float())
