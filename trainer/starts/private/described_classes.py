"""A memory of features from private statistics of its classes: a head by least squares, and what classes look like.

Private least squares on the features of a pre-trained encoder lose less than private gradient descent (Mehta et al.,
"Differentially private image classification from features", TMLR 2023). Nothing here looks at a picture, and nothing is
chosen by one: the ridge follows from the noise alone.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.one_step import OneStep, one_step
from recall_server.core.memory import DescribedClasses
from recall_server.core.preprocessing import Standardise
from trainer.starts.features.described_classes import most_bases, shared_bases
from trainer.starts.features.trained_features import Labelled
from trainer.starts.private.class_statistics import Privacy, Sums, private_sums

RIDGE: Final = 0.25  # of the spectral norm of the noise; chosen on validation pictures of CIFAR-10
SMALLEST_RIDGE: Final = 1e-4  # of the mean eigenvalue
DRAWN: Final = 500  # logits of a class, for the scale of the head
SCALES: Final = torch.logspace(-1, 3, 81)


class PrivateMemory(NamedTuple):
    """A memory, the step that gives its head, and the noisy counts [C] of its classes, one or more each."""

    memory: DescribedClasses
    step: OneStep
    counts: Tensor


class Model(NamedTuple):
    """Normal features: `means` [C, D] of classes, the covariance `within` them [D, D], and counts [C]."""

    means: Tensor
    within: Tensor
    counts: Tensor


def private_memory(train: Labelled, classes: int, numbers: int, privacy: Privacy) -> PrivateMemory:
    """The memory of features [N, D] as the encoder gives them, within so many numbers.

    Raises ValueError where these do not suffice to describe the classes, and for a promise that no noise keeps.
    """
    width = train.features.shape[1]
    bases = most_bases(numbers, classes, width, 1)
    if bases < classes:
        raise ValueError(
            f"{numbers} numbers allow {max(0, bases)} bases, fewer than the {classes} that {classes} classes take; "
            "say more --images-per-class"
        )
    sums = private_sums(train, classes, privacy)
    deviation = privacy.clip * width**-0.5
    space = Standardise(torch.zeros(width), torch.full((width,), deviation))
    model, weights = described(sums), least_squares(sums)
    weights = weights * best_scale(weights, model) * deviation  # of features in the space
    step = one_step(LinearHead(weights.float(), torch.zeros(classes)), space)
    means, within = (model.means / deviation).float(), (model.within / deviation**2).float()
    along = shared_bases(step.vectors, means, within, bases)  # [D, K]
    spread = ((within @ along) * along).sum(dim=0).clamp(min=0).sqrt()
    memory = DescribedClasses(
        along.T.contiguous(), step.vectors @ along, (means @ along).unsqueeze(0), spread.repeat(classes, 1)
    )
    return PrivateMemory(memory, step, model.counts)


def least_squares(sums: Sums) -> Tensor:
    """The weights [C, D] of ridge regression on one-hot targets, without a bias."""
    values, vectors = torch.linalg.eigh(sums.products)
    width = len(values)
    ridge = RIDGE * sums.deviation * math.sqrt(2 * width) + SMALLEST_RIDGE * float(values.clamp(min=0).mean())
    weights: Tensor = (sums.sums @ vectors / (values.clamp(min=0) + ridge)) @ vectors.T
    return weights


def described(sums: Sums) -> Model:
    """The normal features that the statistics describe: without negative variances, and with one picture or more."""
    counts = sums.counts.clamp(min=1)
    means = sums.sums / counts.unsqueeze(1)
    values, vectors = torch.linalg.eigh((sums.products - (means.T * counts) @ means) / counts.sum())
    return Model(means, (vectors * values.clamp(min=0)) @ vectors.T, counts.round().clamp(min=1))


def best_scale(weights: Tensor, model: Model) -> float:
    """The factor of the weights with the smallest cross-entropy on features that the model draws, all classes alike."""
    centres, covariance = model.means @ weights.T, weights @ model.within @ weights.T  # [C, C]
    values, vectors = torch.linalg.eigh(covariance)
    noise = torch.randn(len(centres), DRAWN, len(centres), generator=torch.Generator().manual_seed(0)).double()
    logits = (centres.unsqueeze(1) + noise * values.clamp(min=0).sqrt() @ vectors.T).flatten(0, 1)
    labels = torch.arange(len(centres)).repeat_interleave(DRAWN)
    return float(min(SCALES.tolist(), key=lambda scale: float(cross_entropy(scale * logits, labels))))
