"""Which of an encoder's features a linear head needs most: backward elimination of ridge regression.

Without feature j, the least error of ridge regression rises by |w_j|^2 / P_jj, where w_j are the weights of the feature
and P is the inverse of the moments. The feature that is missed least is removed and the others are refitted, again and
again (the surgeon of Hassibi and Stork, NeurIPS 1992, for a squared error).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from trainer.starts.features.trained_features import Labelled

RIDGE: Final = 1e-2  # relative to the mean moment of a feature
COMPACT: Final = 0.8  # share of the features that are left when the matrices shrink to these


def ranked_features(moments: Tensor, products: Tensor) -> Tensor:
    """All features [D], the one that is missed most first.

    `moments` [D, D] are those of features, and `products` [D, k] their moments with what a head should give.
    """
    width = len(moments)
    ridge = RIDGE * moments.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    inverse = torch.linalg.inv(moments.double() + ridge)
    weights, names = inverse @ products.double(), torch.arange(width)
    gone = torch.zeros(width, dtype=torch.bool)
    order: list[int] = []
    for _ in range(width):
        cost = weights.square().sum(dim=1) / inverse.diagonal()
        last = int(cost.masked_fill(gone, torch.inf).argmin())
        column = inverse[:, last] / inverse[last, last]
        weights = weights - column.unsqueeze(1) * weights[last]
        inverse.addr_(column, inverse[last].clone(), alpha=-1)
        order.append(int(names[last]))
        gone[last], inverse[last, last] = True, 1.0
        if float((~gone).sum()) < COMPACT * len(gone):
            weights, inverse, names = weights[~gone], inverse[~gone][:, ~gone].contiguous(), names[~gone]
            gone = gone[~gone]
    return torch.tensor(order).flip(0)


def head_moments(data: Labelled, classes: int) -> tuple[Tensor, Tensor]:
    """Second moments of features [D, D], and their moments with centred one-hot labels [D, C]."""
    targets = one_hot(data.labels, classes).float()
    centred, features = targets - targets.mean(dim=0), data.features.float()
    return features.T @ features / len(features), features.T @ centred / len(features)
