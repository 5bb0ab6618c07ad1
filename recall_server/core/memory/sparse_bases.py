"""Shared bases that are zero at most features: the container for memories of features below one vector of each class.

A basis takes as many numbers as an encoder has features. Where all bases are zero at the same features, these need no
numbers, and a memory of the same size holds more bases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self, final

import torch
from torch import Tensor

from recall_server.core.memory.base import LINEAR, AbstractMemory, Setting
from recall_server.core.memory.targets import Targets

DIGITS: Final = 100  # a position has two digits in this base, and int8 storage rounds neither of them
MOST_FEATURES: Final = DIGITS**2


@final
@dataclass(frozen=True, eq=False)
class SparseBases(AbstractMemory):
    """`bases` [K, m] at m of `features` features, `positions` [m, 2], and `addressing` [C, K].

    A query y recalls one item of length `features`: (y A) B at the positions, and zero elsewhere. A row (i, j) of
    `positions` is feature 100 i + j; positions rise.
    """

    positions: Tensor
    bases: Tensor
    addressing: Tensor
    features: int
    kind: ClassVar[str] = "sparse_bases"
    traits: ClassVar[frozenset[str]] = frozenset({LINEAR})

    @classmethod
    def at(cls, places: Tensor, bases: Tensor, addressing: Tensor, features: int) -> Self:
        """The memory whose bases have their numbers at the rising `places` [m], whole numbers."""
        digits = torch.stack([places // DIGITS, places % DIGITS], dim=1).to(bases)
        return cls(digits, bases, addressing, features)

    def check(self) -> None:
        if self.bases.ndim != 2 or self.addressing.ndim != 2 or self.positions.ndim != 2:
            raise ValueError(
                "bases must be [K, m], positions [m, 2] and addressing [labels, K], "
                f"not {list(self.bases.shape)}, {list(self.positions.shape)} and {list(self.addressing.shape)}"
            )
        if self.positions.shape != (self.bases.shape[1], 2) or self.bases.shape[0] != self.addressing.shape[1]:
            raise ValueError(
                f"bases {list(self.bases.shape)} do not fit positions {list(self.positions.shape)} and addressing "
                f"{list(self.addressing.shape)}"
            )
        if not 1 <= self.features <= MOST_FEATURES:
            raise ValueError(f"sparse bases have 1 to {MOST_FEATURES} features, not {self.features}")
        places = self.places
        rising = bool((places[1:] > places[:-1]).all())
        if not rising or not 0 <= int(places[0]) <= int(places[-1]) < self.features:
            raise ValueError(f"positions must rise from feature 0 to feature {self.features - 1}")
        if self.targets.form != "hard":
            raise ValueError("sparse bases have hard targets")

    @property
    def places(self) -> Tensor:
        """The positions as whole numbers [m]. Storage may have moved a digit by less than a half."""
        digits = self.positions.detach().round().long()
        return digits[:, 0] * DIGITS + digits[:, 1]

    @property
    def query_size(self) -> int:
        return self.addressing.shape[0]

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.features,)

    def tensors(self) -> dict[str, Tensor]:
        return {"positions": self.positions, "bases": self.bases, "addressing": self.addressing}

    def settings(self) -> dict[str, Setting]:
        return {**super().settings(), "features": self.features}

    def sizes(self) -> dict[str, int]:
        """How many there are of each part, as a manifest states them."""
        return {"bases": len(self.bases), "features": len(self.positions)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Setting]) -> Self:
        targets, features = Targets.from_tensors(tensors, settings["targets"]), settings["features"]
        if type(features) is not int:
            raise ValueError(f"the number of features must be a whole number, not {features!r}")
        return cls(tensors["positions"], tensors["bases"], tensors["addressing"], features, targets=targets)

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """One scale for each basis, and one for all coefficients of a basis."""
        return (0,) if name == "bases" else (1,)

    def items(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        values = queries @ self.addressing @ self.bases
        found = values.new_zeros(len(queries), 1, self.features)
        found = found.index_copy(2, self.places.to(values.device), values.unsqueeze(1))
        return found if rows is None else found.expand(-1, rows.shape[1], -1)
