"""Recalled items that are computed on indexing.

A few bases recall hundreds of rows for each label, and a training step uses only some of them. Only coefficients and
bases are kept in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class LazyItems:
    """Items [q, r, *shape] as `coefficients` [q, r, K] over `bases` [K, *shape], computed on indexing."""

    coefficients: Tensor
    bases: Tensor

    @property
    def shape(self) -> torch.Size:
        """The shape of all items."""
        return torch.Size([*self.coefficients.shape[:2], *self.bases.shape[1:]])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def device(self) -> torch.device:
        return self.bases.device

    def __getitem__(self, index: tuple[Tensor, Tensor]) -> Tensor:
        """Items [q, n, *shape] at integer indices of queries and rows, which broadcast to [q, n]."""
        return _combined(self.coefficients[index], self.bases)

    def materialise(self) -> Tensor:
        """All rows of all queries: [q, r, *shape]."""
        return _combined(self.coefficients, self.bases)

    def finite(self) -> bool:
        """Whether coefficients and bases are finite; a sum of products may still overflow."""
        return bool(self.coefficients.isfinite().all() and self.bases.isfinite().all())

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        return type(self)(self.coefficients.to(device, dtype), self.bases.to(device, dtype))


def _combined(coefficients: Tensor, bases: Tensor) -> Tensor:
    return torch.einsum("qrk,k...->qr...", coefficients, bases)
