"""L-BFGS for smooth functions of tensors, such as the loss of a head (Nocedal and Wright, 2006, algorithm 7.5).

The optimisers of torch have one as well. Its first use in a process imports torch's compiler, which takes some seconds
and 150 MB, and it cannot be given what is known of the function's curvature.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

HISTORY: Final = 10  # steps whose curvature is remembered
TRIALS: Final = 20  # lengths of one step
DECREASE: Final = 1e-4  # share of the expected decrease that a step has to reach (Armijo)
FLATTER: Final = 0.9  # share of the slope that may be left after a step (Wolfe)

Loss = Callable[..., Tensor]
Curvature = Callable[..., Sequence[Tensor]]


def minimise(
    loss: Loss, start: Sequence[Tensor], steps: int, *, tolerance: float = 0.0, inverse: Curvature | None = None
) -> list[Tensor]:
    """Tensors, from `start` on, after at most so many steps to a lower `loss(*tensors)`.

    It ends where a step lowers the loss by no more than this share, or not in its last digit. `inverse` maps tensors to
    about the inverse of the loss's second derivative times them; the better it is known, the fewer steps are needed.
    """
    sizes = [each.numel() for each in start]
    tolerance = max(tolerance, *(torch.finfo(each.dtype).eps for each in start))

    def parts(flat: Tensor) -> list[Tensor]:
        return [piece.view_as(each) for piece, each in zip(torch.split(flat, sizes), start, strict=True)]

    def evaluated(flat: Tensor) -> _Point:
        with torch.enable_grad():
            tensors = [each.detach().requires_grad_() for each in parts(flat)]
            value = loss(*tensors)
            return _Point(flat, float(value.detach()), _flat(torch.autograd.grad(value, tensors)))

    def scaled(flat: Tensor) -> Tensor:
        return flat if inverse is None else _flat(inverse(*parts(flat)))

    with torch.no_grad():
        point, pairs = evaluated(_flat([each.detach() for each in start])), deque[_Pair](maxlen=HISTORY)
        for _ in range(steps):
            direction = -_newton(point.gradient, pairs, scaled)
            first = 1.0 if pairs or inverse else min(1.0, 1 / max(float(point.gradient.abs().sum()), 1e-30))
            found = _searched(evaluated, point, direction, first)
            if found is None:
                break
            pair = _Pair(found.flat - point.flat, found.gradient - point.gradient)
            changed, point = point.value - found.value, found
            if float(pair.moved @ pair.turned) > 0:
                pairs.append(pair)
            if changed <= tolerance * abs(point.value):
                break
        return parts(point.flat)


class _Point(NamedTuple):
    flat: Tensor
    value: float
    gradient: Tensor


class _Pair(NamedTuple):
    """How far a step moved, and how much the gradient changed by it."""

    moved: Tensor
    turned: Tensor


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.reshape(-1) for each in tensors])


def _newton(gradient: Tensor, pairs: Sequence[_Pair], scaled: Callable[[Tensor], Tensor]) -> Tensor:
    """About the inverse of the second derivative times the gradient: the two loops."""
    along, shares = gradient.clone(), []
    for pair in reversed(pairs):
        share = (pair.moved @ along) / (pair.moved @ pair.turned)
        along -= share * pair.turned
        shares.append(share)
    along = scaled(along).clone()
    if pairs:
        moved, turned = pairs[-1]
        along *= (moved @ turned) / (turned @ scaled(turned))
    for pair, share in zip(pairs, reversed(shares), strict=True):
        along += (share - (pair.turned @ along) / (pair.moved @ pair.turned)) * pair.moved
    return along


def _searched(evaluated: Callable[[Tensor], _Point], point: _Point, direction: Tensor, length: float) -> _Point | None:
    """A point along the direction that is lower and less steep, by bisection; None where there is none."""
    slope = float(point.gradient @ direction)
    if not slope < 0:
        return None
    low, high, best = 0.0, math.inf, None
    for _ in range(TRIALS):
        found = evaluated(point.flat + length * direction)
        if not found.value <= point.value + DECREASE * length * slope:
            high = length
        else:
            low, best = length, found
            if float(found.gradient @ direction) >= FLATTER * slope:
                return found
        length = (low + high) / 2 if high < math.inf else 2 * low
    return best
