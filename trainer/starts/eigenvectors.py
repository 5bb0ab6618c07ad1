"""A start without a gradient step: leading eigenvectors as bases, coefficients of representative pictures.

The bases are the stored images whose enlarged forms approximate the pictures best (`enlargement.py`).
The coefficients of each class are clustered by k-means into `rows` clusters. The memory keeps the picture nearest to
each centre, because a centre is an average and therefore blurred. With few rows, the centres themselves may do better
(figures in docs/tried.md).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases
from recall_server.core.preprocessing import AbstractPreprocessing, Standardise
from recall_server.core.training.allocator import release_freed_memory
from trainer.data.enlargement import Enlargement
from trainer.data.second_moments import LARGEST, SecondMoments
from trainer.data.splits import NAMED, Split
from trainer.starts.training_data import TrainingData

Coefficients = Literal["typical", "centres"]

logger = logging.getLogger(__name__)

PICTURES_FOR_CENTRES = 6_000  # most pictures of a class that are clustered
PICTURES_FOR_LARGE_BASES = 1_024  # pictures in the Gram matrix, if second moments would be too large
ITERATIONS = 30  # most iterations of k-means


def principal_start(
    data: TrainingData,
    *,
    classes: Sequence[str],
    bases: int,
    rows: int,
    moments: SecondMoments | None = None,
    coefficients: Coefficients = "typical",
    resolution: Literal["half", "full"] = "half",
) -> AddressedBases:
    """The start of a memory from training pictures.

    `moments` are the second moments of all training pictures in pixel space, if `data` is only a sample of them.
    Without them, or with a preprocessing that mixes pixels, the moments of `data` are computed. Bases and coefficients
    get the same scale, so that one outer rate suits both. Raises ValueError for more bases than a stored image has
    numbers.
    """
    split = data.split
    _warn_of_few_pictures(split, classes, rows)
    height, width = split.images.shape[2:]
    enlargement = Enlargement.of(resolution, height, width)
    directions = leading_directions(data, enlargement, bases, moments)
    release_freed_memory()  # the eigenvectors took several times the memory of the moments
    seed = int(torch.randint(2**31, (), generator=data.generator))
    found = [
        representatives(
            _coefficients(split.of_class(label, PICTURES_FOR_CENTRES), data.preprocessing, enlargement, directions),
            rows,
            seed,
            coefficients,
        )
        for label in range(len(classes))
    ]
    return balanced(enlargement, directions, torch.stack(found, dim=1))


def balanced(enlargement: Enlargement, directions: Tensor, addressing: Tensor) -> AddressedBases:
    """The memory of orthonormal directions [K, C * h * w] and coefficients [r, C, K], brought to the same scale."""
    stored = enlargement.stored(directions, directions.shape[1] // enlargement.numbers)
    scale = addressing.square().mean() / stored.square().mean()
    balance = scale.sqrt().sqrt() if scale > 0 else torch.ones(())  # identical pictures have coefficients of zero
    return AddressedBases(stored * balance, addressing / balance, *enlargement.size)


def _warn_of_few_pictures(split: Split, classes: Sequence[str], rows: int) -> None:
    counts = torch.bincount(split.labels, minlength=len(classes)).tolist()
    few = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < rows]
    if few:
        more = "" if len(few) <= NAMED else " and others"
        logger.warning(
            "fewer pictures than the %d that are recalled of each class; some are recalled repeatedly: %s%s",
            rows,
            ", ".join(few[:NAMED]),
            more,
        )


def leading_directions(
    data: TrainingData, enlargement: Enlargement, count: int, moments: SecondMoments | None = None
) -> Tensor:
    """The `count` leading eigenvectors [K, C * h * w] of the uncentred second moments, in model space."""
    split, preprocessing = data.split, data.preprocessing
    numbers = split.images.shape[1] * enlargement.numbers
    if count > numbers:
        raise ValueError(f"{count} bases are more than the {numbers} numbers of a stored image")
    if numbers > LARGEST:
        return _from_few_pictures(data, enlargement, count)
    product = moments.standardised(preprocessing) if moments and isinstance(preprocessing, Standardise) else None
    if product is None or len(product) != numbers:  # the given moments are of images at half resolution
        product = torch.zeros(numbers, numbers, dtype=torch.float64)
        for chunk in split.chunks():
            coordinates = enlargement.coordinates(data.items(chunk))
            product += coordinates.T @ coordinates
        product /= len(split)
    return leading_eigenvectors(product, count)


def leading_eigenvectors(product: Tensor, count: int) -> Tensor:
    """The leading eigenvectors [K, p] of a symmetric matrix [p, p], largest eigenvalue first.

    The sign of each makes its largest number positive, so that all machines agree.
    """
    _, vectors = torch.linalg.eigh(product)
    directions = vectors[:, -count:].flip(1).T.float()
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    upright: Tensor = directions * torch.where(largest < 0, -1.0, 1.0)
    return upright


def _from_few_pictures(data: TrainingData, enlargement: Enlargement, count: int) -> Tensor:
    """The same from the Gram matrix of some pictures, where second moments would not fit in memory."""
    drawn = torch.randperm(len(data.split), generator=data.generator)[: max(count, PICTURES_FOR_LARGE_BASES)]
    some = data.split.select(drawn)
    if count > len(some):
        raise ValueError(f"{count} bases of pictures this large need as many pictures; there are {len(some)}")
    parts = [enlargement.coordinates(data.items(chunk)) for chunk in some.chunks(16)]
    coordinates = torch.cat(parts)
    weights = leading_eigenvectors((coordinates @ coordinates.T).double(), count)
    directions: Tensor = torch.linalg.qr((weights @ coordinates).T)[0].T
    return directions


def _coefficients(
    split: Split, preprocessing: AbstractPreprocessing, enlargement: Enlargement, directions: Tensor
) -> Tensor:
    """The coefficients [N, K] of all pictures over orthonormal directions."""
    parts = [enlargement.coordinates(preprocessing.to_model(chunk.pixels())) @ directions.T for chunk in split.chunks()]
    return torch.cat(parts)


def project(memory: AddressedBases, split: Split, preprocessing: AbstractPreprocessing) -> Tensor:
    """The least-squares coefficients [N, K] of pictures over the enlarged bases of a memory."""
    inverse = torch.linalg.pinv(memory.span().flatten(1))  # [C * H * W, K]
    return torch.cat([preprocessing.to_model(chunk.pixels()).flatten(1) @ inverse for chunk in split.chunks()])


def representatives(points: Tensor, count: int, seed: int, kind: Coefficients = "typical") -> Tensor:
    """[N, K] -> [count, K]: the k-means centres, or the point nearest to each centre.

    If there are at most `count` points, all of them are taken and repeated up to `count`.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  (the extra `trainer`)

    if len(points) <= count:
        return points.repeat(-(-count // len(points)), 1)[:count]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct points than centres: the surplus centres repeat
        found = KMeans(count, n_init=1, max_iter=ITERATIONS, random_state=seed).fit(points.numpy())
    centres = torch.from_numpy(found.cluster_centers_).float()
    return centres if kind == "centres" else points[torch.cdist(centres, points).argmin(dim=1)]
