"""What the loaded memories of features know of their classes, in the space of their encoder's features."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.class_statistics import ClassStatistics, TwoCovariances
from recall_server.core.memory import DescribedClasses
from recall_server.core.preprocessing import Standardise
from recall_server.library import LoadedBundle

KEPT: Final = 8  # memories whose models stay computed


@final
@dataclass(frozen=True, eq=False)
class KnownClasses:
    """A memory that says how its classes vary, and the model that follows."""

    loaded: LoadedBundle
    model: TwoCovariances


def most_knowing(bundles: Iterable[LoadedBundle], encoder: str) -> KnownClasses | None:
    """Of the memories in the features of this encoder, the one that describes the most classes; None if none does."""
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

    What was distilled is training data, not typical features: a memory has to describe its classes.
    """
    memory, space = bundle.memory, bundle.preprocessing
    if bundle.manifest.space != "features" or not isinstance(memory, DescribedClasses):
        return None
    if not isinstance(space, Standardise) or not bool((space.deviation == space.deviation[0]).all()):
        return None  # orthonormal directions would become oblique in the encoder's features
    found = statistics_in_features(memory, space)
    return TwoCovariances(found) if bool(found.variances.any()) else None


def statistics_in_features(memory: DescribedClasses, space: Standardise) -> ClassStatistics:
    """What a memory knows of its classes, in the encoder's features; all deviations of its space are the same."""
    scale, found = space.deviation[0], ClassStatistics.of_memory(memory)
    return ClassStatistics(scale * found.means + space.mean, found.directions, scale**2 * found.variances)


def mean_features(bundle: MemoryBundle, labels: Tensor) -> Tensor:
    """The means [k, D] of the classes of label queries [k, C], as the encoder would give them.

    They are the means of what is recalled, unless the memory describes its classes.
    """
    memory = bundle.memory
    rows = memory.typical(labels) if isinstance(memory, DescribedClasses) else memory.items(labels)
    means = rows.mean(dim=1)
    return bundle.preprocessing.to_pixels(means[:, :, None, None])[:, :, 0, 0]
