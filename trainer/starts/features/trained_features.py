"""Feature vectors from which a linear head learns in a few steps what it would learn from all features.

This is distillation by unrolling (Wang et al., 2018; Deng and Russakovsky, 2022) in the space of a frozen encoder. The
head is trained from zero on the vectors. Its loss on a batch of real features is differentiated through all steps for
the vectors and the learning rate, which Adam changes at rates that fall by half a cosine. `retraining` gives the
server's schedule for the head that `best` was measured with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from recall_server.core.networks.spec import NetworkSpec
from recall_server.core.training.retraining import Retraining, cosine
from recall_server.core.training.updates import State, adam
from trainer.starts.features.linear_unroll import Trained, gradient, train_head

LARGEST_RATE: Final = 10.0  # of a schedule

Observe = Callable[[int, float], None]  # called with the outer steps so far and the accuracy on validation features


class Labelled(NamedTuple):
    """Standardised `features` [N, D] of any floating-point type, and their `labels` [N]."""

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Schedule:
    """The training of vectors: `steps` of the head, and Adam's rates for `outer_steps` batches of real features.

    The loss on real features includes `ridge` / 2 times the squared weights of the head; without it the vectors
    overfit. A share of the batches uses random subsets of the classes, so that heads for subsets are good as well.
    """

    steps: int = 30
    momentum: float = 0.9
    rate: float = 0.1
    outer_steps: int = 1200
    outer_rate: float = 0.02
    rate_of_rate: float = 0.02
    batch: int = 1024
    validate_every: int = 50
    subsets: float = 0.0
    ridge: float = 0.003


class TrainedVectors(NamedTuple):
    """The best of a run: `vectors` [k, r, D], the learning rate, and the accuracy on validation features."""

    vectors: Tensor
    rate: float
    accuracy: float


def retraining(found: TrainedVectors, schedule: Schedule) -> Retraining:
    """The schedule by which a server trains the same head as was measured."""
    return Retraining(
        network=NetworkSpec(architecture="linear"),
        steps=schedule.steps,
        learning_rate=found.rate,
        momentum=schedule.momentum,
        rows_per_class=found.vectors.shape[1],
    )


def train_vectors(
    start: Tensor,
    real: Labelled,
    validation: Labelled,
    schedule: Schedule,
    *,
    generator: torch.Generator,
    observe: Observe = lambda step, accuracy: None,
) -> TrainedVectors:
    """Train `start` [k, r, D], and return the best vectors on validation features; the start is one candidate."""
    best = TrainedVectors(start.clone(), schedule.rate, accuracy(start, schedule.rate, validation, schedule))
    vectors = start.clone()
    log_rate = torch.tensor(schedule.rate, dtype=start.dtype).log()
    of_vectors, of_rate = State(), State()
    for step in range(1, schedule.outer_steps + 1):
        chosen = _some_classes(len(vectors), schedule.subsets, generator)
        batch = _batch(real, chosen, len(vectors), schedule.batch, generator)
        for_vectors, for_rate = _outer_gradient(vectors, log_rate, chosen, batch, schedule)
        share = cosine((step - 1) / schedule.outer_steps)
        adam(vectors, for_vectors, of_vectors, rate=share * schedule.outer_rate)
        adam(log_rate, for_rate, of_rate, rate=share * schedule.rate_of_rate)
        log_rate.clamp_(max=math.log(LARGEST_RATE))
        if step % schedule.validate_every == 0 or step == schedule.outer_steps:
            rate = float(log_rate.exp())
            found = accuracy(vectors, rate, validation, schedule)
            observe(step, found)
            if found > best.accuracy:
                best = TrainedVectors(vectors.clone(), rate, found)
    return best


def _some_classes(classes: int, share: float, generator: torch.Generator) -> Tensor:
    """All classes, or, in a share of the calls, a random number of random classes in order."""
    if float(torch.rand((), generator=generator)) >= share:
        return torch.arange(classes)
    count = int(torch.randint(2, classes + 1, (), generator=generator))
    return torch.randperm(classes, generator=generator)[:count].sort().values


def _batch(real: Labelled, chosen: Tensor, classes: int, size: int, generator: torch.Generator) -> Labelled:
    """Those of `size` random features that are of the chosen classes, with labels that count these from 0."""
    position = torch.full((classes,), -1).scatter(0, chosen, torch.arange(len(chosen)))
    drawn = torch.randint(len(real.labels), (size,), generator=generator)
    labels = position[real.labels[drawn]]
    return Labelled(real.features[drawn[labels >= 0]], labels[labels >= 0])


def _head(vectors: Tensor, rate: float, schedule: Schedule) -> Trained:
    """The head that is trained on all vectors [k, r, D]."""
    classes, rows, _ = vectors.shape
    targets = torch.eye(classes).to(vectors).repeat_interleave(rows, dim=0)
    return train_head(vectors.flatten(0, 1), targets, rate, steps=schedule.steps, momentum=schedule.momentum)


def _outer_gradient(
    vectors: Tensor, log_rate: Tensor, chosen: Tensor, batch: Labelled, schedule: Schedule
) -> tuple[Tensor, Tensor]:
    """Gradients of the loss on real features of the chosen classes, for all vectors and for the log of the rate."""
    some, rate, features = vectors[chosen], float(log_rate.exp()), batch.features.to(vectors)
    head = _head(some, rate, schedule)
    error = (head.logits(features).softmax(dim=1) - one_hot(batch.labels, len(chosen))) / max(1, len(features))
    found = gradient(
        some.flatten(0, 1),
        head,
        rate,
        momentum=schedule.momentum,
        weights=features.T @ error + schedule.ridge * head.weights,
        bias=error.sum(dim=0),
    )
    whole = torch.zeros_like(vectors)
    whole[chosen] = found.vectors.view_as(some)
    return whole, found.rate * rate


def accuracy(vectors: Tensor, rate: float, validation: Labelled, schedule: Schedule) -> float:
    """Accuracy of the head that is trained on all vectors [k, r, D]."""
    head = _head(vectors, rate, schedule)
    right = [
        (head.logits(features.to(vectors)).argmax(dim=1) == labels).sum()
        for features, labels in zip(*(torch.split(each, 4096) for each in validation), strict=True)
    ]
    return float(torch.stack(right).sum()) / max(1, len(validation.labels))
