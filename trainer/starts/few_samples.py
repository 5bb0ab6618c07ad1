"""The start of a memory from few samples: as in `eigenvectors.py`, with random numbers where samples do not suffice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases
from trainer.data.enlargement import Enlargement
from trainer.starts.eigenvectors import Coefficients, balanced, representatives


class Samples(NamedTuple):
    """`items` [n, C, H, W] in model space and `labels` [n]."""

    items: Tensor
    labels: Tensor


def few_samples_start(
    samples: Samples,
    enlargement: Enlargement,
    *,
    classes: int,
    bases: int,
    rows: int,
    generator: torch.Generator,
    coefficients: Coefficients,
) -> AddressedBases:
    """Principal directions of the samples as bases, and `rows` representatives of each class as coefficients.

    Bases beyond the span of the samples, and the coefficients of classes without samples, are random.
    """
    coordinates = enlargement.coordinates(samples.items)  # [n, p]
    _, values, vectors = torch.linalg.svd(coordinates, full_matrices=False)
    found = unit_rows(values[:bases, None] * vectors[:bases])
    random = torch.randn(bases - len(found), coordinates.shape[1], generator=generator)
    random -= random @ found.T @ found
    directions = torch.cat([found, torch.linalg.qr(random.T)[0].T])  # [K, p]
    points = coordinates @ directions.T
    each = [
        _representatives(points[samples.labels == label], points, rows, generator, coefficients)
        for label in range(classes)
    ]
    return balanced(enlargement, directions, torch.stack(each, dim=1))


def _representatives(mine: Tensor, points: Tensor, rows: int, generator: torch.Generator, kind: Coefficients) -> Tensor:
    """Coefficients [n, K] of one class -> [rows, K]."""
    if not len(mine):
        return torch.randn(rows, points.shape[1], generator=generator) * points.std(dim=0)
    return representatives(mine, rows, int(torch.randint(2**31, (), generator=generator)), kind)


def unit_rows(weighted: Tensor) -> Tensor:
    """Rows [k, p] scaled to unit length. Rows of length zero must come last, and are dropped."""
    norms = weighted.norm(dim=1)
    used = norms > 1e-6 * norms.max() if len(norms) else norms > 0
    unit: Tensor = weighted[used] / norms[used, None]
    return unit
