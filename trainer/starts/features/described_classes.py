"""A memory of features with a head and what its classes look like, along bases that both share.

The bases span the head, exactly, and with what is left of them the directions in which features are largest. They are
turned so that the covariance within classes is diagonal along them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead, eigen
from recall_server.core.classifier.one_step import one_step
from recall_server.core.memory import AddressedBases, DescribedClasses, SparseBases
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from trainer.starts.features.anchors import Anchors
from trainer.starts.features.linear_head import CHOSEN, HeadSettings, softmax_head
from trainer.starts.features.representatives import clusters
from trainer.starts.features.small_memories import small_heads
from trainer.starts.features.trained_features import Labelled

RIDGES: Final = (1e-2, 3e-3, 1e-3)  # of the head, chosen on validation features; each head starts at the last
CENTRES: Final = (16, 8, 4, 2)  # of a class: the most that leave half as many bases again as there are classes
MOST_BASES: Final = 256  # more hold what validation features do not show
CLUSTERED: Final = 500  # features of a class that its centres are found among


class Exact(NamedTuple):
    """A memory, its space, the schedule of one step, and the accuracy of its head on validation features.

    `head` is the one that was trained on all features, before anything is stored, in the space that was given.
    """

    memory: DescribedClasses | AddressedBases | SparseBases
    preprocessing: Standardise
    retraining: Retraining
    accuracy: float
    head: LinearHead


def best_exact(  # noqa: PLR0913, PLR0917
    train: Labelled,
    validation: Labelled,
    preprocessing: Standardise,
    classes: int,
    numbers: float,
    settings: HeadSettings = CHOSEN,
    anchors: Anchors | None = None,
) -> Exact:
    """The memory of the head that is best on validation features, within so many numbers.

    Features are in the space of `preprocessing`. The vectors of a head that was trained beside `anchors` keep what its
    columns have in common, which says how its classes differ from the anchors. Where the numbers do not suffice for
    descriptions of the classes, the memory is a head of low rank (`small_memories.py`). Raises ValueError where they do
    not even suffice for that, or where there are anchors.
    """
    width = train.features.shape[1]
    centres = next((count for count in CENTRES if 2 * most_bases(numbers, classes, width, count) >= 3 * classes), 1)
    bases = most_bases(numbers, classes, width, centres)
    if 2 * bases < 3 * classes:
        if anchors is not None:
            raise ValueError("a head beside anchors needs a budget that describes its classes; give a larger one")
        return _small(train, validation, preprocessing, classes, numbers, settings)
    bias = is_centred(preprocessing)
    head, accuracy, _ = best_head(train, validation, classes, bias=bias, settings=settings, anchors=anchors)
    step = one_step(head, preprocessing, centred=anchors is None)
    moved = (step.preprocessing.mean - preprocessing.mean) / preprocessing.deviation
    data = Labelled(train.features - moved.to(train.features), train.labels)
    memory = described_classes(data, step.vectors, bases=bases, centres=centres)
    return Exact(memory, step.preprocessing, step.retraining, accuracy, head)


def _small(  # noqa: PLR0913, PLR0917
    train: Labelled,
    validation: Labelled,
    preprocessing: Standardise,
    classes: int,
    numbers: float,
    settings: HeadSettings,
) -> Exact:
    head, _, ridge = best_head(train, validation, classes, bias=False, settings=settings)
    heads = [(_accuracy(each.head(), validation), each) for each in small_heads(head, train, numbers, ridge)]
    accuracy, found = max(heads, key=lambda pair: pair[0])
    step = one_step(found.head(), preprocessing)
    memory = found.memory(classes / step.retraining.learning_rate)
    return Exact(memory, step.preprocessing, step.retraining, accuracy, head)


class BestHead(NamedTuple):
    """A head, its accuracy on validation features, and its ridge."""

    head: LinearHead
    accuracy: float
    ridge: float


def is_centred(preprocessing: Standardise) -> bool:
    """Whether a head needs a bias: where features are not centred, they have one length, and it needs none."""
    return bool((preprocessing.mean != 0).any())


def best_head(  # noqa: PLR0913
    train: Labelled,
    validation: Labelled,
    classes: int,
    *,
    bias: bool,
    settings: HeadSettings = CHOSEN,
    anchors: Anchors | None = None,
) -> BestHead:
    """The head of the ridge that is best on validation features, or of the ridge in the settings.

    Beside `anchors`, it is trained on their classes too, and its columns are given less the mean of theirs.
    """
    features, labels, every = train.features.float(), train.labels, classes
    if anchors is not None:
        features = torch.cat([features, anchors.data.features])
        labels = torch.cat([labels, anchors.data.labels + classes])
        every += anchors.classes
    head, best = None, None
    for ridge in RIDGES if settings.ridge is None else (settings.ridge,):
        head = softmax_head(features, labels, every, ridge, bias=bias, balance=settings.balance, start=head)
        own = head if anchors is None else LinearHead(_beyond(head.weights, classes), head.bias[:classes])
        accuracy = _accuracy(own, validation)
        if best is None or accuracy > best[1]:
            best = BestHead(own, accuracy, ridge)
    assert best is not None, "there is a ridge to try"
    return best


def _beyond(weights: Tensor, classes: int) -> Tensor:
    """The first columns, less the mean of the others."""
    return weights[:classes] - weights[classes:].mean(dim=0)


def _accuracy(head: LinearHead, data: Labelled) -> float:
    right = [(head.logits(features).argmax(dim=1) == labels).sum() for features, labels in _chunks(data)]
    return float(torch.stack(right).sum()) / max(1, len(data.labels)) if right else 0.0


def most_bases(numbers: float, classes: int, width: int, centres: int) -> int:
    """The largest K that so many numbers allow: K (D + C (2 + r)) of them, at most MOST_BASES beyond the head's."""
    return min(width, MOST_BASES + classes, int(numbers // (width + classes * (2 + centres))))


def described_classes(data: Labelled, vectors: Tensor, *, bases: int, centres: int) -> DescribedClasses:
    """Of features [N, D] in model space; `vectors` [C, D] give the head in one step of training.

    The mean of the centres of a class is its mean. Raises ValueError for fewer bases than span the vectors.
    """
    classes = len(vectors)
    if bases < torch.linalg.matrix_rank(vectors):
        raise ValueError(f"{bases} bases cannot span a head of {classes} classes")
    means, within, counts = _moments(data, classes)
    along = shared_bases(vectors, means, within, bases)  # [D, K]
    squares = torch.zeros(classes, bases)
    for features, labels in _chunks(data):
        squares.index_add_(0, labels, ((features - means[labels]) @ along).square())
    found = [centres_of(data.features[data.labels == label], centres) @ along for label in range(classes)]  # [r, K]
    deviations = (squares / counts).sqrt()
    return DescribedClasses(along.T.contiguous(), vectors @ along, torch.stack(found, dim=1), deviations)


def _chunks(data: Labelled) -> list[tuple[Tensor, Tensor]]:
    parts = zip(torch.split(data.features, 4096), torch.split(data.labels, 4096), strict=True)
    return [(features.float(), labels) for features, labels in parts]


def _moments(data: Labelled, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Means [C, D], the covariance within classes [D, D], and counts [C, 1] of at least one."""
    width = data.features.shape[1]
    counts = torch.bincount(data.labels, minlength=classes).clamp(min=1).float().unsqueeze(1)
    sums, products = torch.zeros(classes, width), torch.zeros(width, width)
    for features, labels in _chunks(data):
        sums.index_add_(0, labels, features)
        products.addmm_(features.T, features)
    means = sums / counts
    return means, (products - sums.T @ means) / len(data.labels), counts


def shared_bases(vectors: Tensor, means: Tensor, within: Tensor, count: int) -> Tensor:
    """Orthonormal columns [D, count] that span the vectors [C, D], and directions in which features are largest."""
    _, values, rows = torch.linalg.svd(vectors, full_matrices=False)
    head = rows[values > 1e-5 * values.max()].T  # [D, C - 1]
    others = torch.linalg.qr(head, mode="complete").Q[:, head.shape[1] :]  # orthonormal, and orthogonal to the head
    moments = others.T @ (within + means.T @ means / len(means)) @ others
    largest = others @ eigen(moments)[1].flip(1)[:, : count - head.shape[1]]
    along = torch.cat([head, largest], dim=1)
    turned: Tensor = along @ eigen(along.T @ within @ along)[1].flip(1)
    return turned


def centres_of(features: Tensor, count: int) -> Tensor:
    """Centres [count, D] of features [n, D], whose mean is theirs; fewer features are repeated in turn."""
    found = clusters(features[:CLUSTERED].float(), min(count, len(features), CLUSTERED)).centres
    repeated = found[torch.arange(count) % len(found)]
    return repeated - repeated.mean(dim=0) + features.float().mean(dim=0)
