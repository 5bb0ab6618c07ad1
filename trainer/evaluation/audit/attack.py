"""How well scores tell members of a training set from other pictures, with intervals.

Figures are the area under the ROC curve, the advantage (the largest difference of true and false positive rates), and
the true positive rate at a false positive rate of 1 %, which tells of the few pictures that an attacker can be sure of
(Carlini et al., "Membership inference attacks from first principles", IEEE S&P 2022). Intervals of 95 % are those of
the bootstrap over pictures, by percentiles.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

FALSE_POSITIVES: Final = 0.01
FEWEST: Final = 100  # pictures of each side: of fewer, none is a false positive at this rate
RESAMPLES: Final = 1000
AT_ONCE: Final = 100  # resamples
KOLMOGOROV: Final = 1.358  # the 95 % quantile of Kolmogorov's distribution


class Estimate(NamedTuple):
    """A figure, and its 95 % interval."""

    value: float
    low: float
    high: float


class Attack(NamedTuple):
    """What an attack reaches: 0.5, 0 and 0.01 are those of guessing, and 1 all around that of certainty."""

    auroc: Estimate
    advantage: Estimate
    caught: Estimate  # the true positive rate at FALSE_POSITIVES


def measure(members: Tensor, others: Tensor, generator: torch.Generator) -> Attack:
    """The figures of an attack with scores [M] of members and [N] of others, larger for members.

    Raises ValueError for fewer than FEWEST of either.
    """
    check_enough(len(members), len(others))
    scores, place = torch.unique(torch.cat([members, others]), return_inverse=True)
    place = len(scores) - 1 - place  # the highest score first; equal scores share a place
    mine, theirs = place[: len(members)], place[len(members) :]
    once = _figures(_counts(mine[None], len(scores)), _counts(theirs[None], len(scores)))[:, 0]
    again = []
    for _ in range(RESAMPLES // AT_ONCE):
        drawn = [
            _counts(side[torch.randint(len(side), (AT_ONCE, len(side)), generator=generator)], len(scores))
            for side in (mine, theirs)
        ]
        again.append(_figures(*drawn))
    bounds = torch.quantile(torch.cat(again, dim=1), torch.tensor([0.025, 0.975]).double(), dim=1)  # [2, 3]
    return Attack(*(Estimate(*map(float, each)) for each in zip(once, *bounds, strict=True)))


def check_enough(members: int, others: int) -> None:
    """Raise ValueError for fewer pictures than an interval takes."""
    for count, what in ((members, "members"), (others, "non-members")):
        if count < FEWEST:
            raise ValueError(
                f"intervals at {FALSE_POSITIVES:.0%} false positives take {FEWEST} or more {what}; there are {count}"
            )


def chance(members: int, others: int) -> float:
    """The advantage that guessing exceeds once in twenty times, since the advantage is a maximum (Kolmogorov)."""
    return min(1.0, KOLMOGOROV * math.sqrt(1 / members + 1 / others))


def _counts(places: Tensor, size: int) -> Tensor:
    """How often each of `size` places occurs in each row of `places` [B, n]: [B, size], float64."""
    counts = torch.zeros(len(places), size, dtype=torch.float64)
    return counts.scatter_add_(1, places, torch.ones_like(places, dtype=torch.float64))


def _figures(members: Tensor, others: Tensor) -> Tensor:
    """[3, B] of the numbers of members and others [B, S] at each score, the highest first."""
    right, wrong = (side.cumsum(dim=1) / side.sum(dim=1, keepdim=True) for side in (members, others))
    before = right - members / members.sum(dim=1, keepdim=True)
    area = ((right + before) / 2 * others / others.sum(dim=1, keepdim=True)).sum(dim=1)
    caught = (right * (wrong <= FALSE_POSITIVES)).amax(dim=1)
    return torch.stack([area, (right - wrong).amax(dim=1).clamp(min=0), caught])
