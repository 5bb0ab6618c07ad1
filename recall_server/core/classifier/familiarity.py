"""How familiar a picture is to a classifier of features: the chance that it shows one of the classifier's classes.

A linear head over the classes, and over others that a memory knows, gives the score of a picture: the largest logit of
the classes, less half of the largest logit of the others. Logits tell pictures of unknown classes better than distances
to class means do (Vaze et al., "Open-set recognition: a good closed-set classifier is all you need", ICLR 2022), and
the others show what does not count (`benchmarks/familiarity.py` has the figures).

A logistic function turns the score into a probability, as if pictures of the classes and of others were equally
frequent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, final

import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead

NONE_BELOW: Final = 0.2  # familiarity of a picture of none of the classes, unless a caller chooses another threshold
OTHERS_SHARE: Final = 0.5  # of the largest logit of others; the best of five values from 0 to 1 on held-out classes
LEAST_GAP: Final = 1e-3  # deviations between known and unknown scores: familiarity never falls as the score rises


@final
@dataclass(frozen=True, eq=False)
class Familiarity:
    """`head` over the `classes` of a classifier, and then over others, if any; scores above `midpoint` are familiar.

    Raises ValueError for tensors of wrong shapes, numbers that are not finite and a slope that is not positive.
    """

    head: LinearHead
    classes: int
    midpoint: float
    slope: float

    def __post_init__(self) -> None:
        weights, bias = self.head
        if weights.ndim != 2 or bias.shape != weights.shape[:1] or not 1 <= self.classes <= len(weights):
            raise ValueError(f"weights {list(weights.shape)} and bias {list(bias.shape)} make no head of the classes")
        if not bool(weights.isfinite().all() and bias.isfinite().all() and math.isfinite(self.midpoint)):
            raise ValueError("the numbers of a familiarity score must be finite")
        if not 0 < self.slope < math.inf:
            raise ValueError("familiarity must rise with the score")

    @classmethod
    def calibrated(cls, head: LinearHead, classes: int, known: Tensor, unknown: Tensor, *, spread: float = 1.0) -> Self:
        """Calibrated on features [N, D] of pictures of the classes and [M, D] of others.

        `spread` widens the distribution of the known scores. The probabilities are those of two Gaussians that share
        the mean of both variances.
        """
        uncalibrated = cls(head, classes, 0.0, 1.0)
        inside, outside = uncalibrated.score(known).double(), uncalibrated.score(unknown).double()
        variance = float((spread**2 * inside.var() + outside.var()) / 2)
        gap = max(float(inside.mean() - outside.mean()), LEAST_GAP * variance**0.5)
        return cls(head, classes, float(inside.mean() + outside.mean()) / 2, gap / variance)

    def score(self, features: Tensor) -> Tensor:
        """Features [N, D] -> scores [N]."""
        logits = self.head.logits(features)
        largest = logits[:, : self.classes].amax(dim=1)
        if logits.shape[1] == self.classes:
            return largest
        return largest - OTHERS_SHARE * logits[:, self.classes :].amax(dim=1)

    def of(self, features: Tensor) -> Tensor:
        """Features [N, D] -> the familiarity [N] of each picture, 0 to 1."""
        return torch.sigmoid(self.slope * (self.score(features) - self.midpoint))

    def tensors(self) -> dict[str, Tensor]:
        """What a classifier's file stores."""
        return {
            "weights": self.head.weights,
            "bias": self.head.bias,
            "calibration": torch.tensor([self.midpoint, self.slope]),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], classes: int) -> Self:
        """The inverse of `tensors`. Raises ValueError."""
        if set(tensors) != {"weights", "bias", "calibration"} or tensors["calibration"].shape != (2,):
            raise ValueError("a familiarity score has the tensors weights, bias and calibration [2]")
        midpoint, slope = tensors["calibration"].tolist()
        return cls(LinearHead(tensors["weights"], tensors["bias"]), classes, midpoint, slope)
