"""The start of the paper's recipes: uniformly random numbers."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases

Initialisation = Literal["xavier", "kaiming"]


def noise_start(
    item_shape: tuple[int, ...],
    *,
    bases: int,
    rows: int,
    query_size: int,
    generator: torch.Generator,
    initialisation: Initialisation = "xavier",
    stored_shape: tuple[int, ...] | None = None,
) -> AddressedBases:
    """Uniformly random bases [K, *stored_shape] and addressing [r, d_y, K], as in the code of the paper's authors.

    `xavier` is the initialisation of their code (Glorot and Bengio, 2010), and `kaiming` that of their paper (He et
    al., 2015; without fan-out). Bases of images have half resolution by default.
    """
    stored = stored_shape or half_resolution(item_shape)

    def uniform(fan_out: int, fan_in: int, *shape: int) -> Tensor:
        fan = (fan_in + fan_out) if initialisation == "xavier" else fan_in
        bound = (6 / fan) ** 0.5
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)

    height, width = item_shape[1:] if len(item_shape) == 3 else (None, None)
    return AddressedBases(
        bases=uniform(bases, math.prod(stored), bases, *stored),
        addressing=uniform(query_size * rows, bases, rows, query_size, bases),
        height=height,
        width=width,
    )


def half_resolution(item_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of images at half resolution, rounded up; vectors stay as they are."""
    if len(item_shape) != 3:
        return item_shape
    channels, height, width = item_shape
    return channels, (height + 1) // 2, (width + 1) // 2
