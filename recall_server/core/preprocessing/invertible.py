"""The checks that keep a preprocessing invertible."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST, LARGEST = 1e-6, 1e6  # scales outside this range turn float32 images into noise, zeros or infinities


def require_usable_scales(name: str, scales: Tensor) -> None:
    """Raise ValueError for scales outside SMALLEST to LARGEST."""
    if not bool(((scales >= SMALLEST) & (scales <= LARGEST)).all()):
        raise ValueError(f"{name} must lie between {SMALLEST:g} and {LARGEST:g}, or the map cannot be inverted")


def require_orthonormal(directions: Tensor, *, name: str = "directions") -> None:
    """Raise ValueError unless D D^T = I.

    Eight random vectors probe this, because the full product of 3072 directions would add seconds to loading.
    """
    probes = torch.randn(8, directions.shape[0], generator=torch.Generator().manual_seed(0)).to(directions)
    if not torch.allclose((probes @ directions) @ directions.T, probes, atol=1e-3):
        raise ValueError(f"{name} must have orthonormal rows, or the map cannot be inverted")
