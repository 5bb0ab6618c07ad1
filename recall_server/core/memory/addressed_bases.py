"""Shared bases combined by addressing matrices (Deng and Russakovsky, 2022, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from recall_server.core.memory.base import AbstractMemory
from recall_server.core.memory.combinations import LazyImages


@final
@dataclass(frozen=True, eq=False)
class AddressedBases(AbstractMemory):
    """`bases` [K, C, h, w] at stored (half) resolution and `addressing` [r, d_y, K].

    A query y recalls x_i = (y A_i) B for i = 1..r, upsampled bilinearly to (height, width).
    """

    bases: Tensor
    addressing: Tensor
    height: int
    width: int
    kind: ClassVar[str] = "addressed_bases"

    def __post_init__(self) -> None:
        if self.bases.ndim != 4 or self.addressing.ndim != 3:
            raise ValueError(
                "bases must be [K, C, h, w] and addressing [r, d_y, K], "
                f"not {list(self.bases.shape)} and {list(self.addressing.shape)}"
            )
        if self.bases.shape[0] != self.addressing.shape[2]:
            raise ValueError(f"{self.bases.shape[0]} bases, but addressing combines {self.addressing.shape[2]}")
        if self.height < self.bases.shape[2] or self.width < self.bases.shape[3]:
            raise ValueError(
                f"bases of {self.bases.shape[2]}x{self.bases.shape[3]} are larger than "
                f"the images of {self.height}x{self.width}"
            )

    @property
    def query_size(self) -> int:
        return self.addressing.shape[1]

    @property
    def rows(self) -> int:
        return self.addressing.shape[0]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.bases.shape[1], self.height, self.width

    def tensors(self) -> dict[str, Tensor]:
        return {"bases": self.bases, "addressing": self.addressing}

    def geometry(self) -> dict[str, int]:
        return {"height": self.height, "width": self.width}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], geometry: Mapping[str, int]) -> Self:
        return cls(
            bases=tensors["bases"],
            addressing=tensors["addressing"],
            height=geometry["height"],
            width=geometry["width"],
        )

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """A scale for each basis, and one for all coefficients of each basis: leading bases have the large ones."""
        return (0,) if name == "bases" else (2,)

    def recall(self, queries: Tensor) -> Tensor:
        return self.recall_lazily(queries).materialise()

    def recall_lazily(self, queries: Tensor) -> LazyImages:
        # Upsampling is linear, so the K bases are enlarged instead of the Q * r recalled images.
        return LazyImages(torch.einsum("qd,rdk->qrk", queries, self.addressing), self.enlarged())

    def enlarged(self) -> Tensor:
        """The bases as they are recalled: [K, C, H, W]."""
        return interpolate(self.bases, size=(self.height, self.width), mode="bilinear", align_corners=False)

    def select_rows(self, rows: Tensor) -> Self:
        return replace(self, addressing=self.addressing[rows])


def largest_rows(numbers: float, *, query_size: int, base_numbers: int, bases: int) -> int:
    """The largest r that a budget of so many numbers holds beside K bases (paper, section 4).

    K * base_numbers + query_size * r * K <= numbers, where N images of d numbers for each of C classes allow
    numbers = N * C * d, and a label query has query_size = C. Zero or less means that K bases do not fit.
    """
    return int((numbers - bases * base_numbers) // (query_size * bases))
