"""Stored images that each hold a grid of smaller ones, enlarged when they are recalled (IDC, Kim et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from recall_server.core.memory.base import Setting, chosen_rows
from recall_server.core.memory.resizing import enlarge
from recall_server.core.memory.stored_items import AbstractStoredItems
from recall_server.core.memory.targets import Targets


@final
@dataclass(frozen=True, eq=False)
class MultiFormation(AbstractStoredItems):
    """`stored` [d_y, s, C, H, W]: s images for each of d_y labels, each a grid of `factor` x `factor` cells.

    A label recalls all cells of its images, row by row, each enlarged bilinearly to [C, H, W]: r = s * factor^2 items.
    A mixture of labels mixes them.
    """

    stored: Tensor
    factor: int = 2
    kind: ClassVar[str] = "multi_formation"

    def check(self) -> None:
        if self.stored.ndim != 5:
            raise ValueError(f"images must be [labels, images, C, H, W], not {list(self.stored.shape)}")
        height, width = self.stored.shape[3:]
        if self.factor < 1 or height % self.factor or width % self.factor:
            raise ValueError(f"images of {height}x{width} cannot be cut into {self.factor}x{self.factor} equal cells")

    @property
    def rows(self) -> int:
        return self.stored.shape[1] * self.factor**2

    @property
    def item_shape(self) -> tuple[int, ...]:
        return tuple(self.stored.shape[2:])

    def settings(self) -> dict[str, Setting]:
        return super().settings() | {"factor": self.factor}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Setting]) -> Self:
        factor = settings["factor"]
        if type(factor) is not int:
            raise ValueError(f"the factor must be a whole number, not {factor!r}")
        return cls(tensors["items"], factor, targets=Targets.from_tensors(tensors, settings["targets"]))

    @classmethod
    def holding(cls, items: Tensor, factor: int) -> Self:
        """The memory whose cells are items [d_y, r, C, H, W] shrunk by averaging; r is a multiple of factor^2."""
        labels, rows, channels, height, width = items.shape
        cells = items.reshape(labels, rows, channels, height // factor, factor, width // factor, factor).mean((4, 6))
        grid = cells.reshape(labels, rows // factor**2, factor, factor, *cells.shape[2:])
        return cls(grid.permute(0, 1, 4, 2, 5, 3, 6).reshape(labels, -1, channels, height, width), factor)

    def items(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        mixed = torch.einsum("qd,ds...->qs...", queries, self.stored)
        count, images, channels, height, width = mixed.shape
        factor = self.factor
        cells = mixed.reshape(count, images, channels, factor, height // factor, factor, width // factor)
        cells = cells.permute(0, 1, 3, 5, 2, 4, 6).reshape(
            count, self.rows, channels, height // factor, width // factor
        )
        cells = chosen_rows(cells, rows)
        return enlarge(cells.flatten(0, 1), (height, width)).reshape(*cells.shape[:2], *self.item_shape)
