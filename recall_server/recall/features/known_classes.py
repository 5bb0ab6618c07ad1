"""What the loaded memories of features know of their classes, in the space of their encoder's features."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.class_statistics import ClassStatistics, TwoCovariances
from recall_server.core.memory.base import BASES
from recall_server.core.preprocessing import Standardise
from recall_server.library import LoadedBundle

ROUNDING: Final = 0.02  # of the largest deviation: what int8 may take from the first row of a class and give the second
KEPT: Final = 8  # memories whose models stay computed


@final
@dataclass(frozen=True, eq=False)
class KnownClasses:
    """A memory that says how its classes vary, and the model that follows."""

    loaded: LoadedBundle
    model: TwoCovariances


def most_knowing(bundles: Iterable[LoadedBundle], encoder: str) -> KnownClasses | None:
    """The memory in the features of the encoder with this digest that knows the most classes; None if none is apt."""
    found = [
        KnownClasses(loaded, model)
        for loaded in bundles
        if loaded.feature_encoder is not None and loaded.feature_encoder.sha256 == encoder
        if (model := class_model(loaded.bundle)) is not None
    ]
    return max(found, key=lambda known: len(known.model.known), default=None)


@functools.lru_cache(KEPT)
def class_model(bundle: MemoryBundle) -> TwoCovariances | None:
    """The model of the classes of a memory of features; None if the memory does not say how they vary.

    What was distilled is training data, not typical features. Only two rows that are the mean of a class, plus and
    minus its deviations along orthonormal bases, tell what a class looks like.
    """
    memory, space = bundle.memory, bundle.preprocessing
    if bundle.manifest.space != "features" or memory.rows != 2 or BASES not in memory.traits:
        return None
    if not isinstance(space, Standardise) or not bool((space.deviation == space.deviation[0]).all()):
        return None  # orthonormal directions would become oblique in the encoder's features
    scale, bases = space.deviation[0], memory.span()
    items = memory.items(torch.eye(memory.query_size))
    deviations = (items[:, 0] - items[:, 1]) @ bases.T
    if bool((deviations < -ROUNDING * deviations.abs().max()).any()):
        return None
    found = ClassStatistics.of_memory(memory)
    if not bool(found.variances.any()):
        return None
    return TwoCovariances(
        ClassStatistics(scale * found.means + space.mean, found.directions, scale**2 * found.variances)
    )


def mean_features(bundle: MemoryBundle, labels: Tensor) -> Tensor:
    """The mean [k, D] of what a memory of features recalls for label queries [k, C], as the encoder would give it."""
    means = bundle.memory.items(labels).mean(dim=1)
    return bundle.preprocessing.to_pixels(means[:, :, None, None])[:, :, 0, 0]
