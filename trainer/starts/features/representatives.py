"""A few vectors for each class, without training: means, weighted k-means centres and medoids.

Each function takes the features [N, D] of one class and returns vectors [r, D].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Clusters(NamedTuple):
    """`centres` [r, D], and the share [r] of the class that each represents."""

    centres: Tensor
    shares: Tensor


def clusters(features: Tensor, count: int) -> Clusters:
    """K-means (Lloyd, 1982, with the start of Arthur and Vassilvitskii, 2007). One centre is the mean of the class.

    The weights of the centres matter as much as the centres (Lu et al., "DDOQ", ICLR 2026).
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  (the extra `trainer`; and half a second of every start)

    found = KMeans(count, n_init=1, random_state=0).fit(features.float().numpy())
    sizes = torch.bincount(torch.from_numpy(found.labels_).long(), minlength=count)
    return Clusters(torch.from_numpy(found.cluster_centers_).to(features), sizes / len(features))


def medoids(features: Tensor, centres: Tensor) -> Tensor:
    """The real vector nearest to each centre [r, D]. No vector is taken twice."""
    distances = torch.cdist(centres, features)
    chosen: list[int] = []
    for row in distances:
        row[chosen] = torch.inf
        chosen.append(int(row.argmin()))
    return features[chosen]
