"""A memory without a gradient step: leading eigenvectors as bases, typical pictures of each class as coefficients.

The bases are the stored images whose enlargements carry most of the pictures (`enlargement.py`). Of each class,
k-means finds `rows` centres among the coefficients of its pictures, and the picture nearest to each centre is kept: a
centre is an average and blurred. Where only few are kept the averages may do better (docs/tried.md has figures).
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

Coefficients = Literal["typical", "centres"]

logger = logging.getLogger(__name__)

PICTURES_FOR_CENTRES = 6_000  # of one class
PICTURES_FOR_LARGE_BASES = 1_024  # where pictures are too large for their second moments
ITERATIONS = 30  # of k-means


def principal_start(
    split: Split,
    preprocessing: AbstractPreprocessing,
    *,
    classes: Sequence[str],
    bases: int,
    rows: int,
    generator: torch.Generator,
    moments: SecondMoments | None = None,
    coefficients: Coefficients = "typical",
    resolution: Literal["half", "full"] = "half",
) -> AddressedBases:
    """The memory of training pictures, deterministic by the generator.

    `moments` are those of all training pictures in pixel space where `split` is a sample of them; without, or where
    the preprocessing mixes pixels, those of `split` are taken. The scale is balanced between bases and coefficients,
    so that one outer rate suits both. Raises ValueError for more bases than a stored image has numbers.
    """
    _say_who_is_poor(split, classes, rows)
    height, width = split.images.shape[2:]
    enlargement = Enlargement.of(resolution, height, width)
    directions = leading_directions(split, preprocessing, enlargement, bases, generator, moments)
    release_freed_memory()  # the search for them takes several times the moments
    seed = int(torch.randint(2**31, (), generator=generator))
    found = [
        representatives(
            _coefficients(split.of_class(label, PICTURES_FOR_CENTRES), preprocessing, enlargement, directions),
            rows,
            seed,
            coefficients,
        )
        for label in range(len(classes))
    ]
    return balanced(enlargement, directions, torch.stack(found, dim=1))


def balanced(enlargement: Enlargement, directions: Tensor, addressing: Tensor) -> AddressedBases:
    """The memory of orthonormal directions [K, C * h * w] and their coefficients [r, C, K], both on one scale."""
    stored = enlargement.stored(directions, directions.shape[1] // enlargement.numbers)
    scale = addressing.square().mean() / stored.square().mean()
    balance = scale.sqrt().sqrt() if scale > 0 else torch.ones(())  # pictures that are all mean have no coefficients
    return AddressedBases(stored * balance, addressing / balance, *enlargement.size)


def _say_who_is_poor(split: Split, classes: Sequence[str], rows: int) -> None:
    counts = torch.bincount(split.labels, minlength=len(classes)).tolist()
    poor = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < rows]
    if poor:
        more = "" if len(poor) <= NAMED else " and others"
        logger.warning(
            "fewer pictures than the %d that are recalled of each class, so some are recalled more than once: %s%s",
            rows,
            ", ".join(poor[:NAMED]),
            more,
        )


def leading_directions(  # noqa: PLR0917
    split: Split,
    preprocessing: AbstractPreprocessing,
    enlargement: Enlargement,
    count: int,
    generator: torch.Generator,
    moments: SecondMoments | None = None,
) -> Tensor:
    """The `count` leading eigenvectors [K, C * h * w] of the pictures' coordinates, uncentred, in model space."""
    numbers = split.images.shape[1] * enlargement.numbers
    if count > numbers:
        raise ValueError(f"{count} bases are more than the {numbers} numbers of a stored image")
    if numbers > LARGEST:
        return _of_few(split, preprocessing, enlargement, count, generator)
    product = moments.standardised(preprocessing) if moments and isinstance(preprocessing, Standardise) else None
    if product is None or len(product) != numbers:  # moments are those of images at half resolution
        product = torch.zeros(numbers, numbers, dtype=torch.float64)
        for chunk in split.chunks():
            coordinates = enlargement.coordinates(preprocessing.to_model(chunk.pixels()))
            product += coordinates.T @ coordinates
        product /= len(split)
    return leading_eigenvectors(product, count)


def leading_eigenvectors(product: Tensor, count: int) -> Tensor:
    """[K, p] of a symmetric [p, p], leading first; the sign of each is that of its largest number, on any machine."""
    _, vectors = torch.linalg.eigh(product)
    directions = vectors[:, -count:].flip(1).T.float()
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    upright: Tensor = directions * torch.where(largest < 0, -1.0, 1.0)
    return upright


def _of_few(
    split: Split, preprocessing: AbstractPreprocessing, enlargement: Enlargement, count: int, generator: torch.Generator
) -> Tensor:
    """The same from the products of some pictures with each other: those of their numbers would not fit in memory."""
    some = split.select(torch.randperm(len(split), generator=generator)[: max(count, PICTURES_FOR_LARGE_BASES)])
    if count > len(some):
        raise ValueError(f"{count} bases of pictures this large need as many pictures; there are {len(some)}")
    parts = [enlargement.coordinates(preprocessing.to_model(chunk.pixels())) for chunk in some.chunks(16)]
    coordinates = torch.cat(parts)
    weights = leading_eigenvectors((coordinates @ coordinates.T).double(), count)
    directions: Tensor = torch.linalg.qr((weights @ coordinates).T)[0].T
    return directions


def _coefficients(
    split: Split, preprocessing: AbstractPreprocessing, enlargement: Enlargement, directions: Tensor
) -> Tensor:
    """[N, K] of every picture over orthonormal directions."""
    parts = [enlargement.coordinates(preprocessing.to_model(chunk.pixels())) @ directions.T for chunk in split.chunks()]
    return torch.cat(parts)


def project(memory: AddressedBases, split: Split, preprocessing: AbstractPreprocessing) -> Tensor:
    """Coefficients [N, K] of pictures over the enlarged bases of any memory, by least squares."""
    inverse = torch.linalg.pinv(memory.span().flatten(1))  # [C * H * W, K]
    return torch.cat([preprocessing.to_model(chunk.pixels()).flatten(1) @ inverse for chunk in split.chunks()])


def representatives(points: Tensor, count: int, seed: int, kind: Coefficients = "typical") -> Tensor:
    """[N, K] -> [count, K]: the k-means centres, or for each of them the point that is nearest to it.

    Where there are no more points than `count` all are taken, and repeated to fill it.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  (the extra `trainer`)

    if len(points) <= count:
        return points.repeat(-(-count // len(points)), 1)[:count]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct points than centres: the surplus centres repeat
        found = KMeans(count, n_init=1, max_iter=ITERATIONS, random_state=seed).fit(points.numpy())
    centres = torch.from_numpy(found.cluster_centers_).float()
    return centres if kind == "centres" else points[torch.cdist(centres, points).argmin(dim=1)]
