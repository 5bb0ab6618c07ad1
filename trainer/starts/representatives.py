"""A few vectors for each class, without training: means, weighted k-means, medoids, herding and random ones.

Each takes the features [N, D] of one class and gives vectors [r, D].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Clusters(NamedTuple):
    """`centres` [r, D] and the share [r] of the class that each stands for."""

    centres: Tensor
    shares: Tensor


def clusters(features: Tensor, count: int, *, seed: int = 0) -> Clusters:
    """K-means (Lloyd, 1982, with the start of Arthur and Vassilvitskii, 2007). One centre is the mean of the class.

    The weights of the centres matter as much as the centres (Lu et al., "DDOQ", ICLR 2026).
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  (the extra `trainer`; and half a second of every start)

    found = KMeans(count, n_init=1, random_state=seed).fit(features.float().numpy())
    sizes = torch.bincount(torch.from_numpy(found.labels_).long(), minlength=count)
    return Clusters(torch.from_numpy(found.cluster_centers_).to(features), sizes / len(features))


def medoids(features: Tensor, centres: Tensor) -> Tensor:
    """The real vectors that are nearest to centres [r, D], each taken once; at most one for each feature vector."""
    distances = torch.cdist(centres, features)
    chosen: list[int] = []
    for row in distances:
        row[chosen] = torch.inf
        chosen.append(int(row.argmin()))
    return features[chosen]


def herded(features: Tensor, count: int) -> Tensor:
    """Real vectors whose running mean stays closest to the mean of all (Welling, 2009; iCaRL, 2017, algorithm 4)."""
    mean, total = features.mean(dim=0), torch.zeros_like(features[0])
    free, order = torch.ones(len(features), dtype=torch.bool), list[int]()
    for number in range(1, count + 1):
        distance = ((total + features) / number - mean).square().sum(dim=1)
        best = int(distance.masked_fill(~free, torch.inf).argmin())
        total, free[best] = total + features[best], False
        order.append(best)
    return features[order]


def random_ones(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return features[torch.randperm(len(features), generator=generator)[:count]]
