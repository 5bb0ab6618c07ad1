"""Where the paper's recipes start: from noise. Other starts are in `eigenvectors.py` and `from_bundle.py`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases

Initialisation = Literal["xavier", "kaiming"]


def noise_start(
    image_shape: tuple[int, int, int],
    *,
    bases: int,
    rows: int,
    query_size: int,
    generator: torch.Generator,
    initialisation: Initialisation = "xavier",
    stored_size: tuple[int, int] | None = None,
) -> AddressedBases:
    """Uniformly random bases [K, C, h, w] and addressing [r, d_y, K], as the paper's authors start.

    `xavier` is what their code does (Glorot and Bengio, 2010), `kaiming` what their paper says (He et al., 2015; no
    fan-out). Bases are at half resolution unless `stored_size` (h, w) says otherwise.
    """
    channels, height, width = image_shape
    size = stored_size or ((height + 1) // 2, (width + 1) // 2)

    def uniform(fan_out: int, fan_in: int, *shape: int) -> Tensor:
        fan = (fan_in + fan_out) if initialisation == "xavier" else fan_in
        bound = (6 / fan) ** 0.5
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)

    return AddressedBases(
        bases=uniform(bases, channels * size[0] * size[1], bases, channels, *size),
        addressing=uniform(query_size * rows, bases, rows, query_size, bases),
        height=height,
        width=width,
    )
