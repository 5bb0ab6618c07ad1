"""Shared bases combined by addressing matrices (Deng and Russakovsky, 2022, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from recall_server.core.memory.base import BASES, LINEAR, LazilyRecalled, Setting
from recall_server.core.memory.lazy_items import LazyItems
from recall_server.core.memory.resizing import AbstractEnlarged, enlarge, size_of
from recall_server.core.memory.targets import Targets


@final
@dataclass(frozen=True, eq=False)
class AddressedBases(AbstractEnlarged):
    """`bases` [K, C, h, w] or [K, D], and `addressing` [r, d_y, K].

    A query y recalls x_i = (y A_i) B for i = 1..r. Images are stored small and enlarged bilinearly to (height, width).
    """

    bases: Tensor
    addressing: Tensor
    height: int | None = None
    width: int | None = None
    kind: ClassVar[str] = "addressed_bases"
    traits: ClassVar[frozenset[str]] = frozenset({LINEAR, BASES})

    def check(self) -> None:
        if self.bases.ndim not in (2, 4) or self.addressing.ndim != 3:
            raise ValueError(
                "bases must be [K, C, h, w] or [K, D] and addressing [r, d_y, K], "
                f"not {list(self.bases.shape)} and {list(self.addressing.shape)}"
            )
        if self.bases.shape[0] != self.addressing.shape[2]:
            raise ValueError(f"{self.bases.shape[0]} bases, but addressing combines {self.addressing.shape[2]}")
        self.check_size("bases")

    @property
    def query_size(self) -> int:
        return self.addressing.shape[1]

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return tuple(self.bases.shape[1:])

    @property
    def rows(self) -> int:
        return self.addressing.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        return {"bases": self.bases, "addressing": self.addressing} | self.targets.tensors()

    def sizes(self) -> dict[str, int]:
        """How many there are of each part, as a manifest states them."""
        return {"bases": len(self.bases)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Setting]) -> Self:
        height, width = size_of(settings)
        targets = Targets.from_tensors(tensors, settings["targets"])
        return cls(tensors["bases"], tensors["addressing"], height, width, targets=targets)

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """One scale per basis, and one for all coefficients of a basis, because leading bases have the large ones."""
        return (2,) if name == "addressing" else super().quantisation_axes(name)

    def items(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        # Enlarging is linear, so the K bases are enlarged instead of the q * n recalled images.
        return LazyItems(self._coefficients(queries, rows), self.span()).materialise()

    def recall_lazily(self, queries: Tensor) -> LazilyRecalled:
        return LazilyRecalled(LazyItems(self._coefficients(queries), self.span()), self.targets.among(queries))

    def span(self) -> Tensor:
        """The bases at recalled size: [K, C, H, W] or [K, D]."""
        return enlarge(self.bases, self.size)

    def _coefficients(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        """[q, n, K]."""
        coefficients = torch.einsum("qd,rdk->qrk", queries, self.addressing)
        if rows is None:
            return coefficients
        return coefficients.gather(1, rows.unsqueeze(2).expand(-1, -1, coefficients.shape[2]))
