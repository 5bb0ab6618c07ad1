"""How familiar pictures are to a classifier of labels: a head over these and the other labels of their memories.

The head of one memory is trained. Heads of several memories would have to be joined, which takes longer than the
classifier itself: there the head follows from the means of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.familiarity import Familiarity
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.library import Library
from recall_server.recall.features.calibration import MANY, MOST_OTHERS, head_familiarity, mean_familiarity
from recall_server.recall.features.known_classes import mean_features, most_knowing
from recall_server.recall.queries import Query
from recall_server.recall.training_set import BundleQuery, build_training_set

MOST_OWN: Final = 200  # labels of a classifier: the head over all takes longer than the classifier's own


def label_familiarity(library: Library, queries: Sequence[Query]) -> Familiarity | None:
    """The familiarity of pictures to the labels of these queries.

    None for labels of images and for more than MOST_OWN, and where no loaded memory in the features of the same encoder
    says how classes vary, which the calibration needs.
    """
    encoders = [query.loaded.feature_encoder for query in queries]
    if len(queries) > MOST_OWN or any(encoder is None for encoder in encoders):
        return None
    assert encoders[0] is not None
    known = most_knowing(library.bundles.values(), encoders[0].sha256)
    if known is None:
        return None
    asked = [(query.loaded.bundle, query.vector) for query in queries]
    own = _means(asked)
    others = _others(queries)
    if len(others) > MOST_OTHERS:
        distances = torch.cdist(_means(others), own).amin(dim=1)
        others = [others[at] for at in distances.topk(MOST_OTHERS, largest=False).indices.sort().values.tolist()]
    means = _means(others) if others else own[:0]
    if len({query.loaded.name for query in queries}) > 1:
        return mean_familiarity(own, torch.full((len(own),), MANY), known.model.whiten(means), known.model)
    return head_familiarity(_trained([*asked, *others]), own, means, known.model)


def _trained(asked: Sequence[tuple[MemoryBundle, Tensor]]) -> LinearHead:
    """The head over these labels of one memory, by its schedule."""
    training_set = build_training_set([BundleQuery(bundle, vector) for bundle, vector in asked])
    names, width = list(map(str, range(len(asked)))), training_set.images.shape[2]
    classifier = FreshClassifier(names, (width, 1, 1), training_set.preprocessing, training_set.retraining)
    return classifier.fit(training_set.images, training_set.targets).linear_head()


def _others(queries: Sequence[Query]) -> list[tuple[MemoryBundle, Tensor]]:
    """Queries for the other labels of the memories asked, without labels that have the name of one asked for."""
    taken = {label for query in queries for label in (query.name, query.name.rpartition(":")[2])}
    bundles = {query.loaded.name: query.loaded.bundle for query in queries}
    return [
        (bundle, vector)
        for bundle in bundles.values()
        for label, vector in zip(bundle.labels, torch.eye(len(bundle.labels)), strict=True)
        if label not in taken
    ]


def _means(asked: Sequence[tuple[MemoryBundle, Tensor]]) -> Tensor:
    return torch.cat([mean_features(bundle, vector.unsqueeze(0)) for bundle, vector in asked])
