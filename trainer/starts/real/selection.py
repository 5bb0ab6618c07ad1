"""Which real items of a class to keep: at random, by herding, or as centres that cover the class.

Each function takes the features [N, p] of one class and returns indices [count] of distinct rows in the order in which
they were chosen. All raise ValueError if `count` exceeds N.
"""

from __future__ import annotations

import torch
from torch import Tensor


def at_random(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows drawn without replacement."""
    _check(features, count)
    return torch.randperm(len(features), generator=generator)[:count]


def herding(features: Tensor, count: int) -> Tensor:
    """Rows whose running mean stays closest to the mean of all (Welling, 2009).

    Each choice brings the mean of the chosen rows closest to the mean of all (iCaRL, Rebuffi et al., 2017,
    algorithm 4).
    """
    _check(features, count)
    mean = features.mean(dim=0)
    total, chosen = torch.zeros_like(mean), torch.zeros(len(features), dtype=torch.bool)
    order = []
    for number in range(1, count + 1):
        distance = ((total + features) / number - mean).square().sum(dim=1)
        best = int(distance.masked_fill(chosen, torch.inf).argmin())
        total, chosen[best] = total + features[best], True
        order.append(best)
    return torch.tensor(order)


def k_center(features: Tensor, count: int) -> Tensor:
    """The row nearest to the mean, then repeatedly the row farthest from all chosen ones (Sener and Savarese, 2018).

    This is the greedy 2-approximation of the smallest radius around chosen rows that covers all rows (Gonzalez, 1985).
    """
    _check(features, count)
    order = [int((features - features.mean(dim=0)).square().sum(dim=1).argmin())]
    nearest = torch.full((len(features),), torch.inf)
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, (features - features[order[-1]]).square().sum(dim=1))
        nearest[order] = -torch.inf  # rows that are equal to a chosen one still come before it
        order.append(int(nearest.argmax()))
    return torch.tensor(order)


def _check(features: Tensor, count: int) -> None:
    if not 1 <= count <= len(features):
        raise ValueError(f"cannot choose {count} of {len(features)} items")
