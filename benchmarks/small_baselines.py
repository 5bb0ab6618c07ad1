"""What else fits in the numbers of a memory below one vector of each class: means, centres and real features.

Whole vectors compete with vectors at the features that a head needs most, as the bases of the memory may be; such a
feature costs two numbers more, its position. The best candidate has the best linear learner on validation features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.feature_learners import Vectors, linear, right
from recall_server.core.memory import AddressedBases, StoredItems
from recall_server.core.memory.storage import fake_quantise
from trainer.starts.features.feature_choice import head_moments, ranked_features
from trainer.starts.features.representatives import clusters
from trainer.starts.features.small_memories import POSITION, sparse_sizes
from trainer.starts.features.trained_features import Labelled

CLUSTERED: Final = 5000  # features that k-means of all classes together looks at
SOFT: Final = 1e-3  # share that every class has in every cluster
VECTORS: Final = (0.5, 1, 2)  # for each class, where they have few features


class Baselines(NamedTuple):
    """Vectors of a baseline, of which each was the best on validation features."""

    class_means: Vectors
    k_means: Vectors
    random_real: Vectors


def int8(vectors: Tensor) -> Tensor:
    """[C, r, D] as they are after they were stored."""
    return fake_quantise(StoredItems(vectors), "int8").stored


def of_rank(vectors: Tensor, rank: int) -> Tensor:
    """Vectors [C, 1, m] cut to this rank, as bases and coefficients hold them after they were stored."""
    classes, mean = len(vectors), vectors.mean(dim=0)
    left, sizes, right_ = torch.linalg.svd((vectors - mean)[:, 0], full_matrices=False)
    cut = AddressedBases(right_[:rank], (left * sizes)[None, :, :rank])
    return fake_quantise(cut, "int8").items(torch.eye(classes)) + mean


class SmallBaselines:
    """Candidates for a data set with class `means` [C, 1, D]."""

    def __init__(self, real: Labelled, validation: Labelled, means: Tensor) -> None:
        self._real, self._validation, self._means = real, validation, means
        self._classes, _, self._width = means.shape
        self._ranked = ranked_features(*head_moments(real, self._classes))

    def within(self, numbers: int, generator: torch.Generator) -> Baselines:
        """The best of each kind within so many numbers, all after int8 storage."""
        counts = [max(2, int(share * self._classes)) for share in VECTORS]
        sizes = [(count, min(self._width, numbers // (count + POSITION))) for count in counts]
        if whole := numbers // (self._width + self._classes):
            sizes.append((whole, self._width))
        sizes = [(count, features) for count, features in sizes if features]
        return Baselines(
            self._best(self._class_means(numbers)),
            self._best([self._centres(count, self._places(features)) for count, features in sizes]),
            self._best([self._drawn(count, self._places(features), generator) for count, features in sizes]),
        )

    def _places(self, count: int) -> Tensor:
        return self._ranked[:count].sort().values

    def _class_means(self, numbers: int) -> list[Vectors]:
        sizes = [
            *sparse_sizes(numbers, self._classes, self._width),
            (self._classes, numbers // (self._classes + POSITION)),
        ]
        if whole := numbers // (self._width + self._classes):
            sizes.append((whole, self._width))
        places = [(rank, self._places(min(self._width, features))) for rank, features in sizes if features]
        return [
            Vectors.of_classes(self._at(of_rank(self._means[:, :, some], min(rank, self._classes)), some))
            for rank, some in places
        ]

    def _centres(self, count: int, places: Tensor) -> Vectors:
        """Centres of all classes together, each with the classes of the features that it stands for."""
        drawn = torch.randperm(len(self._real.labels), generator=torch.Generator().manual_seed(0))[:CLUSTERED]
        features, labels = self._real.features[drawn][:, places].float(), self._real.labels[drawn]
        centres = clusters(features, count).centres
        nearest = torch.cdist(features, centres).argmin(dim=1)
        shares = one_hot(nearest, count).float().T @ one_hot(labels, self._classes).float() + SOFT
        return Vectors(self._at(int8(centres.unsqueeze(0)), places)[0], shares / shares.sum(dim=1, keepdim=True))

    def _drawn(self, count: int, places: Tensor, generator: torch.Generator) -> Vectors:
        drawn = torch.randperm(len(self._real.labels), generator=generator)[:count]
        targets = one_hot(self._real.labels[drawn], self._classes).float()
        return Vectors(self._at(int8(self._real.features[drawn][:, places].float().unsqueeze(0)), places)[0], targets)

    def _at(self, vectors: Tensor, places: Tensor) -> Tensor:
        """Vectors [..., m] at these places of [..., D]."""
        return vectors.new_zeros(*vectors.shape[:-1], self._width).index_copy(-1, places, vectors)

    def _best(self, candidates: Sequence[Vectors]) -> Vectors:
        return max(candidates, key=lambda each: right(linear(each, self._validation), self._validation))
