"""One head over classes of several memories of features, and of pictures.

The heads of two memories were never trained against each other. Side by side, they do not tell the classes of one
memory from those of another. A small correction adds that, learned from typical features of all classes: one vector of
weights for all classes of a memory, which changes nothing among them, and a smaller one for each class. A class without
a head, such as one of pictures, has the correction alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.training.heads.lbfgs import minimise
from recall_server.core.training.heads.loss import equal_class_shares, head_loss

# Half the squared length of corrections costs so much, against the mean cross-entropy of features that are as long as
# the square root of their number. Chosen on validation pictures of five-way tasks over CIFAR-10 and CIFAR-100.
COST_OF_SOURCE: Final = 0.1
COST_OF_CLASS: Final = 0.3
COST_WITHOUT_HEAD: Final = 0.1
STEPS: Final = 20  # of L-BFGS; more change nothing in the fourth digit


class HeadSource(NamedTuple):
    """Classes of one memory or of one set of pictures: `typical` [n, D] features with `labels` [n] among `classes`.

    `head` has their columns of a head over all classes of the memory, whose sum is zero; None where there is none.
    """

    typical: Tensor
    labels: Tensor
    classes: int
    head: LinearHead | None = None


def joined_head(sources: Sequence[HeadSource]) -> LinearHead:
    """The head over all classes of the sources, in their order. Raises ValueError for no sources.

    Where no source has typical features, the heads are side by side.
    """
    if not sources:
        raise ValueError("one source or more is needed")
    typical = torch.cat([source.typical for source in sources]).float()
    if not len(typical):
        return LinearHead(*_side_by_side(sources, typical.shape[1], torch.tensor(1.0)))
    scale = (typical.shape[1] / typical.square().sum(dim=1).mean()).sqrt()
    features, labels = scale * typical, _labels(sources)
    shares = equal_class_shares(labels, sum(source.classes for source in sources))
    origin = torch.repeat_interleave(torch.tensor([source.classes for source in sources]))
    weights, bias = _side_by_side(sources, features.shape[1], scale)
    cost = torch.tensor([COST_WITHOUT_HEAD if source.head is None else COST_OF_CLASS for source in sources])
    root = cost.sqrt()[origin, None]  # what the correction of a class costs in relation to others

    def loss(common: Tensor, own: Tensor) -> Tensor:
        logits = features @ (weights + common[origin] + own).T + bias
        return head_loss(logits, labels, (COST_OF_SOURCE, common), (1.0, root * own), shares=shares)

    start = [features.new_zeros(len(sources), features.shape[1]), torch.zeros_like(weights)]
    common, own = minimise(loss, start, STEPS)
    return LinearHead(scale * (weights + common[origin] + own), bias)


def _labels(sources: Sequence[HeadSource]) -> Tensor:
    """Labels [n] among the classes of all sources."""
    first = accumulate((source.classes for source in sources), initial=0)
    return torch.cat([source.labels + start for source, start in zip(sources, first, strict=False)])


def _side_by_side(sources: Sequence[HeadSource], width: int, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The weights [k, D], for features times `scale`, and biases [k] of all heads; zeros for classes without."""
    weights, biases = [], []
    for source in sources:
        if source.head is None:
            weights.append(torch.zeros(source.classes, width))
            biases.append(torch.zeros(source.classes))
            continue
        weights.append(source.head.weights / scale)
        biases.append(source.head.bias)
    return torch.cat(weights), torch.cat(biases)
