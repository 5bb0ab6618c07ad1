"""Random hallucinators, with scales of one and shifts of zero, as in the authors' code (Liu et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recall_server.core.memory import Hallucinators


def hallucinator_shapes(count: int, own: int, item_shape: Sequence[int], kernel: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors except the bases, which have `own` channels."""
    channels, height, width = item_shape
    inner, biases = (count, channels, height - kernel + 1, width - kernel + 1), (count, channels)
    return {
        "encoder": (count, channels, own, kernel, kernel),
        "encoder_bias": biases,
        "scale": inner,
        "shift": inner,
        "decoder": (count, channels, channels, kernel, kernel),
        "decoder_bias": biases,
    }


def random_hallucinators(
    bases: Tensor, item_shape: Sequence[int], count: int, kernel: int, generator: torch.Generator
) -> Hallucinators:
    """A memory of these bases [d_y, s, c, H, W] with `count` random hallucinators.

    Filters and biases are uniform in +-1/sqrt(fan-in), which is torch's default.
    """
    tensors, bound = {"bases": bases}, 1.0
    for name, shape in hallucinator_shapes(count, bases.shape[2], item_shape, kernel).items():
        if name in ("scale", "shift"):
            tensors[name] = torch.ones(shape) if name == "scale" else torch.zeros(shape)
            continue
        if not name.endswith("_bias"):  # the bias that follows shares its fan-in
            bound = (shape[2] * shape[3] * shape[4]) ** -0.5
        tensors[name] = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    return Hallucinators.from_tensors(tensors, {"targets": "hard"})
