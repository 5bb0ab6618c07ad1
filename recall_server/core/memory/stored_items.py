"""One stored item per recalled item: the container of classical dataset distillation (Wang et al., 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from recall_server.core.memory.base import ITEMS, LINEAR, AbstractMemory, Setting, chosen_rows
from recall_server.core.memory.resizing import AbstractEnlarged, enlarge, size_of
from recall_server.core.memory.targets import Targets


class AbstractStoredItems(AbstractMemory):
    """`stored` [d_y, ...]: items of each of d_y labels; a mixture of labels mixes them.

    Subclasses are frozen dataclasses that have the field `stored`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({LINEAR, ITEMS})
    stored: Tensor

    @property
    def query_size(self) -> int:
        return self.stored.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        return {"items": self.stored} | self.targets.tensors()

    @property
    def rows(self) -> int:
        return self.stored.shape[1]

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """One scale for each stored item."""
        return 0, 1


@final
@dataclass(frozen=True, eq=False)
class StoredItems(AbstractStoredItems, AbstractEnlarged):
    """`stored` [d_y, r, C, h, w] or [d_y, r, D]: r items for each of d_y labels; a mixture of labels mixes them.

    Images are recalled at their stored size, or enlarged bilinearly to (height, width) if these are given.
    """

    stored: Tensor
    height: int | None = None
    width: int | None = None
    kind: ClassVar[str] = "stored_items"

    def check(self) -> None:
        if self.stored.ndim not in (3, 5):
            raise ValueError(
                f"items must be [labels, rows, C, h, w] or [labels, rows, D], not {list(self.stored.shape)}"
            )
        self.check_size("stored images")

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return tuple(self.stored.shape[2:])

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Setting]) -> Self:
        height, width = size_of(settings)
        targets = Targets.from_tensors(tensors, settings["targets"])
        return cls(tensors["items"], height, width, targets=targets)

    def items(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        mixed = chosen_rows(torch.einsum("qd,dr...->qr...", queries, self.stored), rows)
        return enlarge(mixed.flatten(0, 1), self.size).reshape(*mixed.shape[:2], *self.item_shape)
