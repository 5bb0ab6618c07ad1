"""A memory of pixels from private statistics of its classes: pictures that are drawn from what the statistics say.

Each class is a normal distribution around its mean, with one covariance for all classes. Its statistics are those of
`class_statistics.py`, of pictures at half resolution, and whatever is drawn from them is as private as they are. The
space of the pictures is fixed, since a mean or a deviation of the pictures would tell of them.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases
from recall_server.core.preprocessing import Projected, Standardise
from trainer.data.enlargement import Enlargement
from trainer.data.second_moments import GREY, LARGEST
from trainer.data.splits import Split
from trainer.starts.eigenvectors import balanced, leading_eigenvectors
from trainer.starts.features.trained_features import Labelled
from trainer.starts.private.class_statistics import Privacy, private_sums
from trainer.starts.private.described_classes import Model, described

DEVIATION: Final = 0.25  # of pixels 0..1 around grey, for any pictures


class PrivatePictures(NamedTuple):
    """A memory, its space, and the noisy counts [C] of its classes, one or more each."""

    memory: AddressedBases
    preprocessing: Projected
    counts: Tensor


def private_pictures(
    train: Split, *, classes: int, bases: int, rows: int, privacy: Privacy, seed: int
) -> PrivatePictures:
    """The memory of `bases` eigenvectors, and of `rows` drawn pictures of each class. `seed` draws no noise.

    The clip of `privacy` is a share of the longest picture that there can be. Raises ValueError for a promise that no
    noise keeps, for pictures that are too large, and for more bases than a stored image has numbers.
    """
    channels, height, width = train.images.shape[1:]
    enlargement = Enlargement.from_half(height, width)
    numbers = channels * enlargement.numbers
    if numbers > LARGEST:
        raise ValueError(
            f"the statistics of pictures of {height}x{width} are too large; use --image-size 64, or an --encoder"
        )
    if bases > numbers:
        raise ValueError(f"{bases} bases are more than the {numbers} numbers of a stored image")
    longest = (1 - GREY) * math.sqrt(channels * height * width)
    model = described(private_sums(coordinates(train, enlargement, longest), classes, privacy))
    moments = model.within + model.means.T @ model.means / classes
    directions = leading_eigenvectors(moments, bases)  # [K, p]
    drawn = drawn_rows(model, directions.double(), rows, torch.Generator().manual_seed(seed))
    memory = balanced(enlargement, directions, (drawn * longest / DEVIATION).float())
    fixed = Standardise(torch.full((channels,), GREY), torch.full((channels,), DEVIATION))
    return PrivatePictures(memory, Projected.onto(memory.span(), fixed), model.counts)


def coordinates(split: Split, enlargement: Enlargement, longest: float) -> Labelled:
    """Pictures as vectors [N, p] around grey, at half resolution, none of them longer than one."""
    parts = [enlargement.coordinates(chunk.pixels() - GREY) / longest for chunk in split.chunks()]
    return Labelled(torch.cat(parts), split.labels)


def drawn_rows(model: Model, directions: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Pictures of each class, drawn along `directions` [K, p]: [count, C, K]. The mean of a class is that of its rows.

    The drawn deviations of all classes are centred, which with few rows matters more than their being independent.
    """
    values, vectors = torch.linalg.eigh(directions @ model.within @ directions.T)
    noise = torch.randn(count, len(model.means), len(directions), generator=generator).double()
    centred = noise - noise.mean(dim=0)
    rows: Tensor = model.means @ directions.T + centred * values.clamp(min=0).sqrt() @ vectors.T
    return rows
