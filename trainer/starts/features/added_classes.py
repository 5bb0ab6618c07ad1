"""Adds classes to a memory of features that describes its classes, without the features that it was made of.

The head keeps its columns, which tell the old classes from each other as before. What is new is one column for each new
class. It is learned from the features of the new class and from draws of what the memory says of the old ones: normal
around the centres of each class, so that the whole has its deviations. Further bases are directions in which the new
features lie outside the span of the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.one_step import one_step
from recall_server.core.memory import DescribedClasses
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.heads.lbfgs import minimise
from recall_server.core.training.heads.loss import equal_class_shares, head_loss
from recall_server.core.training.retraining import Retraining
from trainer.starts.features.described_classes import centres_of
from trainer.starts.features.drawn_features import left_around

DRAWN: Final = 200  # features of each old class
COST: Final = 0.003  # of half the squared length of a column; chosen on training pictures of CIFAR-10
STEPS: Final = 30  # of L-BFGS
ROUNDING: Final = 1e-4  # of the features' length: what is left of them outside the span is no direction


class Larger(NamedTuple):
    """A memory with further classes, and the schedule of the step that gives its head."""

    memory: DescribedClasses
    retraining: Retraining


def with_classes(
    memory: DescribedClasses,
    schedule: Retraining,
    space: Standardise,
    added: Sequence[Tensor],
    *,
    further_bases: int,
    generator: torch.Generator,
) -> Larger:
    """The memory with a class for each of the features [n, D] in `added`, in the memory's space.

    `schedule` is that of the memory, a single step.
    """
    old = schedule.learning_rate / memory.query_size * (memory.head - memory.head.mean(dim=0))  # weights of its step
    bases = torch.cat([memory.bases, _directions(torch.cat(list(added)), memory.bases, further_bases)])
    further = len(bases) - len(memory.bases)
    head, centres = pad(old, (0, further)), pad(memory.centres, (0, further))
    along = [features @ torch.linalg.pinv(bases) for features in added]  # [n, K] each
    own = torch.stack([each.std(dim=0, correction=0) for each in along])
    # Nothing is known of how the old classes vary along the further bases: as the new ones do.
    deviations = torch.cat([memory.deviations, own[:, len(memory.bases) :].mean(dim=0).expand(len(old), -1)], dim=1)
    drawn = _draws(centres, deviations, generator) @ bases
    columns = _columns(head, drawn @ bases.T, [features @ bases.T for features in added])
    step = one_step(LinearHead(torch.cat([head, columns]), torch.zeros(len(old) + len(added))), space)
    found = torch.stack([centres_of(each, len(centres)) for each in along], dim=1)  # [r, new classes, K]
    larger = DescribedClasses(
        bases, step.vectors, torch.cat([centres, found], dim=1), torch.cat([deviations, own]), frozen=memory.frozen
    )
    return Larger(larger, step.retraining)


def _directions(features: Tensor, bases: Tensor, count: int) -> Tensor:
    """At most `count` orthonormal directions [m, D] in which the features are largest outside the span."""
    outside = features - features @ torch.linalg.pinv(bases) @ bases
    _, values, rows = torch.linalg.svd(outside, full_matrices=False)
    found: Tensor = rows[:count][values[:count] > ROUNDING * features.norm()]
    return found


def _draws(centres: Tensor, deviations: Tensor, generator: torch.Generator) -> Tensor:
    """[C, DRAWN, K]: features of each class, normal around its centres [r, C, K], which vary as `deviations` [C, K]."""
    left = left_around(centres, deviations)
    around = centres[torch.arange(DRAWN) % len(centres)].transpose(0, 1)
    return around + left[:, None] * torch.randn(around.shape, generator=generator)


def _columns(head: Tensor, drawn: Tensor, added: Sequence[Tensor]) -> Tensor:
    """A column [K] for each of the added features [n, K], beside the fixed columns `head` [C, K] of `drawn` [C, n, K].

    All classes count the same. Features are products with the bases, so that logits are products with columns.
    """
    features = torch.cat([drawn.flatten(0, 1), *added])
    counts = [drawn.shape[1]] * len(drawn) + [len(each) for each in added]
    labels = torch.repeat_interleave(torch.tensor(counts))
    shares = equal_class_shares(labels, len(counts))
    scale = (features.shape[1] / features.square().sum(dim=1).mean()).sqrt()
    known = features @ head.T

    def loss(columns: Tensor) -> Tensor:
        logits = torch.cat([known, scale * features @ columns.T], dim=1)
        return head_loss(logits, labels, (COST, columns), shares=shares)

    return scale * minimise(loss, [features.new_zeros(len(added), features.shape[1])], STEPS)[0]
