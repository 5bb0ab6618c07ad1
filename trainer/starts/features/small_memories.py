"""Memories of features that are too small to describe their classes: a head of low rank, with whole or sparse bases.

Whole bases see all features, and take so many numbers each. Sparse bases see the features alone that a head needs most,
so that the same numbers hold more bases. Validation features choose between them, and the number of bases.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.memory import AddressedBases, SparseBases
from trainer.starts.features.feature_choice import head_moments, ranked_features
from trainer.starts.features.linear_head import softmax_head
from trainer.starts.features.low_rank_head import low_rank_factors
from trainer.starts.features.trained_features import Labelled

SHARES: Final = (1 / 8, 1 / 4, 3 / 8, 1 / 2)  # of the numbers, for the addressing of sparse bases
POSITION: Final = 2  # numbers of a position


class SmallHead(NamedTuple):
    """A head without a bias: `addressing` [C, K] times orthonormal `bases` [K, m] at the rising `places` [m]."""

    addressing: Tensor
    bases: Tensor
    places: Tensor
    width: int

    def head(self) -> LinearHead:
        weights = self.bases.new_zeros(len(self.addressing), self.width)
        weights[:, self.places] = self.addressing @ self.bases
        return LinearHead(weights, weights.new_zeros(len(weights)))

    def memory(self, scale: float) -> AddressedBases | SparseBases:
        """The memory that recalls the weights times `scale`."""
        if len(self.places) == self.width:
            return AddressedBases(self.bases, scale * self.addressing.unsqueeze(0))
        return SparseBases.at(self.places, self.bases, scale * self.addressing, self.width)


def small_heads(head: LinearHead, train: Labelled, numbers: float, ridge: float) -> list[SmallHead]:
    """The heads within so many numbers that approximate `head`: one with whole bases, others with sparse ones.

    Raises ValueError where not even one basis at one feature fits.
    """
    classes, width = head.weights.shape
    sizes = sparse_sizes(numbers, classes, width)
    rank = min(classes - 1, int(numbers // (width + classes)))
    if rank < 1 and not sizes:
        raise ValueError(
            f"{numbers:.0f} numbers are fewer than the {classes + POSITION + 1} of a head that sees one feature, for "
            f"{classes} classes"
        )
    features, found = train.features.float(), []
    if rank:
        factors, bases = low_rank_factors(head, train, rank, ridge)
        found.append(SmallHead(factors, bases, torch.arange(width), width))
    ranked = ranked_features(*head_moments(train, classes)) if sizes else torch.empty(0)
    for bases_count, count in sizes:
        places = ranked[:count].sort().values
        seen = Labelled(features[:, places], train.labels)
        found.append(SmallHead(*_factors(seen, classes, bases_count, ridge), places, width))
    return found


def sparse_sizes(numbers: float, classes: int, width: int) -> list[tuple[int, int]]:
    """Numbers of bases K and of features m with K (m + C) + 2 m of at most so many numbers."""
    counts = sorted({min(classes - 1, max(1, int(share * numbers / classes))) for share in SHARES})
    sizes = [(count, int((numbers - count * classes) // (count + POSITION))) for count in counts]
    return [(count, features) for count, features in sizes if count <= features < width]


def _factors(data: Labelled, classes: int, rank: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Factors [C, K] and orthonormal [K, m] of the head over features [N, m]."""
    head = softmax_head(data.features, data.labels, classes, ridge, bias=False)
    if rank < classes - 1:
        return low_rank_factors(head, data, rank, ridge)
    weights = head.weights - head.weights.mean(dim=0)
    left, sizes, right = torch.linalg.svd(weights, full_matrices=False)
    return left[:, :rank] * sizes[:rank], right[:rank]
