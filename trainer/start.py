"""Where the paper's recipes start: from noise. Other starts are in `principal.py` and `continued.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.memory import AddressedBases


def noise(
    image_shape: tuple[int, int, int], *, bases: int, rows: int, query_size: int, generator: torch.Generator
) -> AddressedBases:
    """Xavier-uniform bases and addressing, as the paper's authors start (research: their code, not Kaiming)."""
    channels, height, width = image_shape
    half = (height + 1) // 2, (width + 1) // 2

    def xavier(fan_out: int, fan_in: int, *shape: int) -> Tensor:
        bound = (6 / (fan_in + fan_out)) ** 0.5
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)

    return AddressedBases(
        bases=xavier(bases, channels * half[0] * half[1], bases, channels, *half),
        addressing=xavier(query_size * rows, bases, rows, query_size, bases),
        height=height,
        width=width,
    )
