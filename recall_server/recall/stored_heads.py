"""Classifiers from memories of features that hold a head: its columns, or the heads of several memories joined.

A classifier is trained on them as on any other memory: on one vector for each class, by a schedule of one step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.one_step import OneStep, one_step
from recall_server.core.memory import DescribedClasses
from recall_server.core.preprocessing import Standardise
from recall_server.recall.joined_head import HeadSource, joined_head


def holds_head(bundle: MemoryBundle) -> bool:
    """Whether what the memory recalls are the weights of a head, which one step of training gives back."""
    schedule = bundle.manifest.retraining
    one_step = schedule.network.architecture == "linear" and schedule.steps == 1 and bundle.memory.rows == 1
    return bundle.manifest.space == "features" and one_step and isinstance(bundle.preprocessing, Standardise)


def head_source(bundle: MemoryBundle, vectors: Tensor) -> HeadSource:
    """What a memory that holds a head brings for the queries `vectors` [k, C], in the encoder's features.

    A memory that does not describe its classes brings no typical features.
    """
    head = stored_head(bundle, vectors)
    if not isinstance(bundle.memory, DescribedClasses):
        return HeadSource(head.weights[:0], torch.empty(0, dtype=torch.long), len(vectors), head)
    typical = bundle.memory.typical(vectors)  # [k, r, D]
    features = bundle.preprocessing.to_pixels(typical.flatten(0, 1)[:, :, None, None])[:, :, 0, 0]
    labels = torch.arange(len(vectors)).repeat_interleave(typical.shape[1])
    return HeadSource(features, labels, len(vectors), head)


def by_bundle(bundles: Sequence[MemoryBundle]) -> list[tuple[MemoryBundle, list[int]]]:
    """The different bundles in the order in which they first come, each with its positions."""
    found: dict[int, tuple[MemoryBundle, list[int]]] = {}
    for at, bundle in enumerate(bundles):
        found.setdefault(id(bundle), (bundle, []))[1].append(at)
    return list(found.values())


def in_order(head: LinearHead, positions: Sequence[Sequence[int]]) -> LinearHead:
    """The columns of a head over sources, whose classes have these positions, by position."""
    back = torch.tensor([at for each in positions for at in each]).argsort()
    return LinearHead(head.weights[back], head.bias[back])


def head_with_pictures(asked: Sequence[tuple[MemoryBundle, Tensor]], pictures: HeadSource) -> LinearHead:
    """The head over the classes of queries [C] to memories that hold heads, and then the other classes of pictures.

    The labels of the pictures are among all classes. Pictures of a memory's class add to what is typical of it.
    """
    groups = by_bundle([bundle for bundle, _ in asked])
    sources = [
        _with_pictures(head_source(bundle, torch.stack([asked[at][1] for at in chosen])), chosen, pictures)
        for bundle, chosen in groups
    ]
    last = list(range(len(asked), pictures.classes))
    if last:
        nothing = HeadSource(pictures.typical[:0], pictures.labels[:0], len(last))
        sources.append(_with_pictures(nothing, last, pictures))
    return in_order(joined_head(sources), [*(chosen for _, chosen in groups), last])


def _with_pictures(source: HeadSource, positions: Sequence[int], pictures: HeadSource) -> HeadSource:
    """The source with the pictures of its classes, which have these positions among the classes of the pictures."""
    own = torch.full((pictures.classes,), -1)
    own[torch.tensor(positions)] = torch.arange(len(positions))
    labels = own[pictures.labels]
    typical = torch.cat([source.typical, pictures.typical[labels >= 0]])
    return source._replace(typical=typical, labels=torch.cat([source.labels, labels[labels >= 0]]))


def stored_head(bundle: MemoryBundle, vectors: Tensor) -> LinearHead:
    """The columns of the memory's head for queries [k, C], over the encoder's features."""
    space, schedule = bundle.preprocessing, bundle.manifest.retraining
    assert isinstance(space, Standardise), "holds_head has seen to that"
    step = schedule.learning_rate / len(bundle.labels)  # of the one vector of each class, when all are trained on
    weights = step * bundle.memory.items(vectors)[:, 0] / space.deviation
    return LinearHead(weights, -weights @ space.mean)


def training_step(head: LinearHead, space: Standardise) -> OneStep:
    """The training data from which one step makes this head over an encoder's features, in a bundle's space."""
    return one_step(LinearHead(head.weights * space.deviation, head.bias + head.weights @ space.mean), space)


def head_of(sources: Sequence[HeadSource]) -> LinearHead:
    """The stored head of a single source, else the sources joined."""
    head = sources[0].head if len(sources) == 1 else None
    return joined_head(sources) if head is None else head
