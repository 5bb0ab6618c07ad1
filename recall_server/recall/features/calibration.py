"""Calibrates how familiar pictures are to a classifier, on what a memory of features expects of known and new classes.

No real pictures are at hand when a classifier is made. The model of two covariances draws pictures of its classes, and
pictures of none of them: half of them of the memory's other classes, half of classes that the memory does not know.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from recall_server.core.classifier.class_statistics import LinearHead, TwoCovariances
from recall_server.core.classifier.familiarity import Familiarity
from recall_server.recall.features.few_shot import class_means

MOST_OTHERS: Final = 100  # classes of the memory whose logits are compared with those of the classifier's
DRAWN: Final = 1000  # pictures of the classes, and as many others
MANY: Final = 1e3  # pictures behind the mean of a class that the memory knows
SPREAD: Final = 2.5  # of real scores over drawn ones; one in twenty pictures of validation classes is rejected
# The centre of all pictures depends on what they are pictures of. It is estimated by the classes at hand and, as if it
# were that of so many classes, by the memory's.
CLASSES_OF_CENTRE: Final = 5


def picture_familiarity(features: Tensor, labels: Tensor, model: TwoCovariances, seed: int = 0) -> Familiarity:
    """Familiarity to classes given by pictures [N, D] with labels [N], of which the memory knows none."""
    means, counts = class_means(features.float(), one_hot(labels).to(features.float()))
    shift = (means.mean(dim=0) - model.centre) * len(counts) / (len(counts) + CLASSES_OF_CENTRE)
    found = mean_familiarity(means - shift, counts, model.known, model, seed)
    moved = LinearHead(found.head.weights, found.head.bias - found.head.weights @ shift)
    return Familiarity(moved, len(counts), found.midpoint, found.slope)


def mean_familiarity(
    means: Tensor, counts: Tensor, others: Tensor, model: TwoCovariances, seed: int = 0
) -> Familiarity:
    """Familiarity to classes with `means` [k, D] of `counts` [k] pictures, beside whitened means `others` [o, D]."""
    own = model.whiten(means)
    if len(others) > MOST_OTHERS:
        nearest = torch.cdist(others, own).amin(dim=1).topk(MOST_OTHERS, largest=False).indices
        others = others[nearest.sort().values]
    head = model.head(torch.cat([own, others]), torch.cat([counts, counts.mean().expand(len(others))]))
    known, strange = _drawn(own, counts, others, model, seed)
    return Familiarity.calibrated(head, len(own), known, strange, spread=SPREAD)


def head_familiarity(
    head: LinearHead, own: Tensor, others: Tensor, model: TwoCovariances, seed: int = 0
) -> Familiarity:
    """Familiarity by a head that was trained on classes with means `own` [k, D] and then `others` [o, D]."""
    own, others = model.whiten(own), model.whiten(others)
    known, strange = _drawn(own, torch.full((len(own),), MANY), others, model, seed)
    return Familiarity.calibrated(head, len(own), known, strange)


def _drawn(own: Tensor, counts: Tensor, others: Tensor, model: TwoCovariances, seed: int) -> tuple[Tensor, Tensor]:
    """Features of pictures of classes with whitened means `own` of `counts` pictures, and of pictures of no such class.

    Half of the latter are of `others`, if there are any, and half of classes that the memory does not know.
    """
    generator = torch.Generator().manual_seed(seed)
    known = model.sample(own, counts, -(-DRAWN // len(own)), generator).flatten(0, 1)
    new = DRAWN // 2 if len(others) else DRAWN
    strange = model.sample(own.new_zeros(new, own.shape[1]), own.new_zeros(new), 1, generator).flatten(0, 1)
    if len(others):
        rows = -(-(DRAWN - new) // len(others))
        drawn = model.sample(others, torch.full((len(others),), MANY), rows, generator).flatten(0, 1)
        strange = torch.cat([strange, drawn])
    return known, strange
