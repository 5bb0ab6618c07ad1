"""Recalled images that are made where they are looked at: their coefficients and what these combine is all that lies
in memory. Few bases recall hundreds of rows of each label, of which a step of training sees a handful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class LazyImages:
    """`coefficients` [Q, r, K] over `images` [K, C, H, W]: stands for [Q, r, C, H, W], of which parts can be taken."""

    coefficients: Tensor
    images: Tensor

    @property
    def shape(self) -> torch.Size:
        """Of all that they stand for."""
        return torch.Size([*self.coefficients.shape[:2], *self.images.shape[1:]])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def device(self) -> torch.device:
        return self.images.device

    def __getitem__(self, index: tuple[Tensor, Tensor]) -> Tensor:
        """The images of queries and rows, integers that broadcast to [q, n]: [q, n, C, H, W]."""
        return _combined(self.coefficients[index], self.images)

    def materialise(self) -> Tensor:
        """Every row of every query: [Q, r, C, H, W]."""
        return _combined(self.coefficients, self.images)

    def finite(self) -> bool:
        """Whether all that is combined are numbers; what they add up to may still be too large for one."""
        return bool(self.coefficients.isfinite().all() and self.images.isfinite().all())

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        return type(self)(self.coefficients.to(device, dtype), self.images.to(device, dtype))


def _combined(coefficients: Tensor, images: Tensor) -> Tensor:
    return torch.einsum("qrk,kchw->qrchw", coefficients, images)
