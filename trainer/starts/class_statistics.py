"""A memory of features that holds the mean of each class and its variances around the mean."""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases


def statistics_memory(features: Tensor, labels: Tensor, classes: int, bases: int) -> AddressedBases:
    """A memory with two rows per class: mean plus deviation and mean minus deviation, over shared orthonormal bases.

    It is computed from features [N, D] with labels [N]. The bases span the class means and, as far as `bases` allows,
    the directions of largest variance within classes. They are rotated so that the covariance within classes is
    diagonal. `ClassStatistics.of_memory` reads means and variances back. Raises ValueError for fewer bases than the
    means span.
    """
    if bases < classes:
        raise ValueError(f"{bases} bases cannot span the means of {classes} classes")
    counts = torch.bincount(labels, minlength=classes).clamp(min=1).to(features).unsqueeze(1)
    means = features.new_zeros(classes, features.shape[1]).index_add_(0, labels, features) / counts
    away = features - means[labels]
    within = away.T @ away / len(away)
    span = torch.linalg.qr(means.T).Q  # [D, C]
    outside = within - span @ (span.T @ within)
    outside = outside - (outside @ span) @ span.T
    span = torch.cat([span, torch.linalg.eigh(outside).eigenvectors[:, features.shape[1] - bases + classes :]], dim=1)
    span = span @ torch.linalg.eigh(span.T @ within @ span).eigenvectors.flip(1)  # [D, bases], the largest first
    squares = (away @ span).square()
    deviations = (features.new_zeros(classes, bases).index_add_(0, labels, squares) / counts).sqrt()
    coordinates = means @ span
    return AddressedBases(span.T.contiguous(), torch.stack([coordinates + deviations, coordinates - deviations]))
