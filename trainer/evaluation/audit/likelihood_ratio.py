"""The likelihood ratio attack (LiRA: Carlini et al., "Membership inference attacks from first principles", 2022).

For every picture, what memories show of it is normal: around one mean if they were made from it, and around another if
they were not. Shadow memories say where both are. The variances are those of all pictures together, as the authors
advise for few shadows.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

SMALLEST: Final = 1e-3  # of the deviation of all numbers: shadows that agree exactly are not that sure
FEWEST: Final = 4  # shadows: two with each picture, and two without it


def log_ratios(target: Tensor, shadows: Tensor, inside: Tensor) -> Tensor:
    """The log-likelihood ratio [N] of membership, for what the target shows of N pictures.

    `shadows` [S, N] is what each shadow shows of them, and `inside` [S, N] whether it was made from them. Raises
    ValueError for a picture that was in fewer than two shadows, or missing in fewer than two.
    """
    if int(inside.sum(dim=0).min()) < 2 or int((~inside).sum(dim=0).min()) < 2:
        raise ValueError("every picture must be in two shadow memories and missing in two")
    floor = SMALLEST * float(shadows.std()) + torch.finfo(shadows.dtype).tiny
    return _log_likelihood(target, shadows, inside, floor) - _log_likelihood(target, shadows, ~inside, floor)


def _log_likelihood(target: Tensor, shadows: Tensor, chosen: Tensor, floor: float) -> Tensor:
    """That of normal numbers [N], up to a constant: with the means of the chosen shadows, and one deviation for all."""
    counts = chosen.sum(dim=0)
    means = (shadows * chosen).sum(dim=0) / counts
    squares = ((shadows - means).square() * chosen).sum() / (counts - 1).sum()
    deviation = squares.sqrt().clamp(min=floor)
    return -((target - means) / deviation).square() / 2 - deviation.log()


def halves(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Which of the pictures with these labels [N] each of `count` shadows is made from, bool [count, N].

    Shadows come in pairs: a random half of each class, and the other half. Raises ValueError for an odd number, or
    fewer than four.
    """
    if count < FEWEST or count % 2:
        raise ValueError(f"shadow memories come in pairs, {FEWEST} or more of them, not {count}; 0 does without them")
    inside = torch.zeros(count, len(labels), dtype=torch.bool)
    for pair in range(0, count, 2):
        for label in torch.unique(labels):
            members = torch.nonzero(labels == label).flatten()
            order = members[torch.randperm(len(members), generator=generator)]
            half = (len(order) + pair // 2 % 2) // 2  # of an odd number, the larger part in every other pair
            inside[pair, order[:half]] = True
        inside[pair + 1] = ~inside[pair]
    return inside
