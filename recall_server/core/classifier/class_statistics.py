"""What a memory of features knows of its classes, and what follows for classes that it has never seen.

The model has two covariances (Prince and Elder, "Probabilistic linear discriminant analysis", ICCV 2007). Features of a
class scatter around the mean of the class, with a covariance that all classes share, and the means of classes scatter
around their common centre. Both are recovered from what a memory recalls. A few pictures of a new class then say where
its mean is, up to a Gaussian, and what other pictures of it look like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Self, final

import torch
from torch import Tensor

from recall_server.core.memory.base import BASES, AbstractMemory
from recall_server.core.memory.described_classes import DescribedClasses

UNSEEN: Final = (
    3.0  # variance of means of classes outside the span of the known ones, relative to what they have inside
)
SMALLEST: Final = 1e-6  # of the largest variance: directions below are rounding


def eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [D], the largest last, and eigenvectors [D, D] of a symmetric matrix, in its own type.

    They are computed in float64. In float32, LAPACK gives NaN or an error for one in seven matrices of second moments
    of a few features with many zeros.
    """
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.to(matrix), vectors.to(matrix)


@final
@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """`means` [C, D] of classes, and their `variances` [C, m] along orthonormal `directions` [m, D].

    Raises ValueError for shapes that do not agree, and for fewer than two classes.
    """

    means: Tensor
    directions: Tensor
    variances: Tensor

    def __post_init__(self) -> None:
        classes, width = self.means.shape
        if classes < 2 or not len(self.directions):
            raise ValueError("statistics need two classes or more and one direction or more")
        if self.directions.shape[1] != width or self.variances.shape != (classes, len(self.directions)):
            raise ValueError(
                f"means {list(self.means.shape)}, directions {list(self.directions.shape)} and variances "
                f"{list(self.variances.shape)} must be [C, D], [m, D] and [C, m]"
            )

    @classmethod
    def of_features(cls, features: Tensor, labels: Tensor, classes: int, directions: int) -> Self:
        """Of features [N, D] with labels [N], along the leading eigenvectors of the shared covariance within classes.

        Raises ValueError for more directions than features have.
        """
        counts = torch.bincount(labels, minlength=classes).clamp(min=1).to(features).unsqueeze(1)
        means = features.new_zeros(classes, features.shape[1]).index_add_(0, labels, features) / counts
        away = features - means[labels]
        if directions > features.shape[1]:
            raise ValueError(f"{features.shape[1]} features have no {directions} directions")
        found = eigen(away.T @ away)[1][:, -directions:].flip(1)  # [D, m], the largest first
        squares = (away @ found).square()
        variances = features.new_zeros(classes, directions).index_add_(0, labels, squares) / counts
        return cls(means, found.T.contiguous(), variances)

    @classmethod
    def of_memory(cls, memory: AbstractMemory) -> Self:
        """Of what a memory of features knows or, where it does not say, of what it recalls for each label.

        Then they are the mean and the variances of the rows.

        The directions are a memory's bases, made orthonormal; of a memory without bases, the principal directions of
        the rows around their means. Raises ValueError for one row per label, which has no variance.
        """
        if isinstance(memory, DescribedClasses):
            along = _orthonormal(memory.bases)
            means = memory.centres.mean(dim=0) @ memory.bases
            return cls(means, along, memory.deviations.square() @ (memory.bases @ along.T).square())
        if memory.rows < 2:
            raise ValueError("one recalled vector per class says nothing of how a class varies")
        items = memory.items(torch.eye(memory.query_size))  # [C, r, D]
        means = items.mean(dim=1)
        away = items - means.unsqueeze(1)
        directions = _orthonormal(memory.span()) if BASES in memory.traits else _principal(away.flatten(0, 1))
        return cls(means, directions, (away @ directions.T).square().mean(dim=1))

    def select(self, classes: Tensor) -> ClassStatistics:
        """The same of some of the classes alone."""
        return ClassStatistics(self.means[classes], self.directions, self.variances[classes])


def _orthonormal(rows: Tensor) -> Tensor:
    """An orthonormal basis [m, D] of the span of rows [K, D]; itself, up to signs, where it is one."""
    q, r = torch.linalg.qr(rows.T)
    kept = r.diagonal().abs() > SMALLEST * r.diagonal().abs().max()
    span: Tensor = q[:, kept].T.contiguous()
    return span


def _principal(rows: Tensor) -> Tensor:
    """The right singular vectors [m, D] of rows [N, D], largest first, without those that are rounding."""
    _, values, directions = torch.linalg.svd(rows, full_matrices=False)
    leading: Tensor = directions[values.square() > SMALLEST * values.square().max()]
    return leading


class LinearHead(NamedTuple):
    """Logits x W^T + b of features x [..., D]: `weights` [..., k, D] and `bias` [..., k]."""

    weights: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Features [..., N, D] -> [..., N, k]."""
        return features @ self.weights.transpose(-1, -2) + self.bias.unsqueeze(-2)


@final
class TwoCovariances:
    """The covariance within classes and that of class means, and the posterior of a class from a few pictures.

    `known` [C, D] are the whitened means of the memory's classes.

    Within a class the variance along each direction is the mean of the classes' variances, plus the median of all
    directions', and that median everywhere else. The median keeps small variances from being trusted too much.
    """

    def __init__(self, statistics: ClassStatistics) -> None:
        shared = statistics.variances.mean(dim=0)
        floor = shared.median().clamp(min=SMALLEST * shared.max())
        self._directions = statistics.directions
        self._rest = floor.rsqrt()  # 1 / deviation
        self._scales = (shared + floor).rsqrt() - self._rest
        self.centre = statistics.means.mean(dim=0)
        self.known = self.whiten(statistics.means)  # [C, D]
        _, values, span = torch.linalg.svd(self.known, full_matrices=False)
        between = values.square() / (len(statistics.means) - 1)
        kept = between > SMALLEST * between.max()
        self._outside = UNSEEN * between.sum() / span.shape[1]  # variance of class means in every direction
        self._span, self._between = span[kept], between[kept] + self._outside

    def whiten(self, features: Tensor) -> Tensor:
        """Features [..., D] around the centre, in units of the deviation within a class: [..., D]."""
        return self._scaled(features - self.centre)

    def _scaled(self, vectors: Tensor) -> Tensor:
        return vectors * self._rest + (vectors @ self._directions.T * self._scales) @ self._directions

    def posterior(self, means: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is expected of further pictures of classes, in whitened space.

        `means` [..., k, D] are the means of `counts` [..., k] whitened pictures. Returns the expected mean [..., k, D],
        and the variances of a picture around it, averaged over the classes: [..., K] along the span of the known
        classes' means, and [...] outside.
        """
        inside, count = means @ self._span.T, counts.unsqueeze(-1)
        gain = self._between * count / (self._between * count + 1) - self._outside * count / (self._outside * count + 1)
        expected = means * (self._outside * count / (self._outside * count + 1)) + (inside * gain) @ self._span
        along = (1 + self._between / (self._between * count + 1)).mean(dim=-2)
        outside = (1 + self._outside / (self._outside * counts + 1)).mean(dim=-1)
        return expected, along, outside

    def head(self, means: Tensor, counts: Tensor) -> LinearHead:
        """The head that tells the classes apart best, over features; arguments as for `posterior`.

        It is what training on infinitely many vectors recalled from the posteriors would give.
        """
        expected, along, outside = self.posterior(means, counts)
        inside = expected @ self._span.T
        precision = (1 / along - 1 / outside.unsqueeze(-1)).unsqueeze(-2)  # beyond that outside
        weights = expected / outside[..., None, None] + (inside * precision) @ self._span
        constant = -0.5 * (weights * expected).sum(dim=-1)
        weights = self._scaled(weights)
        return LinearHead(weights, constant - weights @ self.centre)

    def sample(self, means: Tensor, counts: Tensor, rows: int, generator: torch.Generator) -> Tensor:
        """Vectors [k, rows, D] in feature space, drawn from the posterior of each of k classes."""
        expected, along, outside = self.posterior(means, counts)
        noise = torch.randn(len(means), rows, means.shape[-1], generator=generator).to(means)
        spread = noise * outside.sqrt() + ((noise @ self._span.T) * (along.sqrt() - outside.sqrt())) @ self._span
        drawn = expected.unsqueeze(1) + spread
        back = 1 / (self._scales + self._rest) - 1 / self._rest
        whitened: Tensor = drawn / self._rest + (drawn @ self._directions.T * back) @ self._directions
        return whitened + self.centre
