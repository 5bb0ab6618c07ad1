"""A linear head over features, and what the features of its classes look like, along shared bases.

The head tells the classes of this memory apart, and no others. Means, typical vectors and deviations serve classifiers
that combine these classes with others: they say where the classes lie, and how a class of a few pictures may vary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from recall_server.core.memory.base import BASES, LINEAR, AbstractMemory, Setting
from recall_server.core.memory.targets import Targets


@final
@dataclass(frozen=True, eq=False)
class DescribedClasses(AbstractMemory):
    """`bases` [K, D], and along them `head` [C, K], `centres` [r, C, K] and `deviations` [C, K] of C classes.

    A query y recalls one item, (y H) B, from which one training step gives the weights of the head. The mean of the
    `centres` of a class is its mean; each stands for an equal share of it. `deviations` are those of its features.
    """

    bases: Tensor
    head: Tensor
    centres: Tensor
    deviations: Tensor
    kind: ClassVar[str] = "described_classes"
    traits: ClassVar[frozenset[str]] = frozenset({LINEAR, BASES})

    def check(self) -> None:
        if self.bases.ndim != 2 or self.head.ndim != 2 or self.centres.ndim != 3:
            raise ValueError(
                "bases must be [K, D], head [C, K] and centres [r, C, K], "
                f"not {list(self.bases.shape)}, {list(self.head.shape)} and {list(self.centres.shape)}"
            )
        shape = (self.head.shape[0], self.bases.shape[0])
        if not self.head.shape == self.deviations.shape == self.centres.shape[1:] == shape:
            raise ValueError(
                f"head {list(self.head.shape)}, deviations {list(self.deviations.shape)} and centres "
                f"{list(self.centres.shape)} must be along the same {len(self.bases)} bases, of as many classes"
            )
        if self.targets.form != "hard":
            raise ValueError("classes that are described have hard targets")
        if bool((self.deviations < 0).any()):
            raise ValueError("deviations must not be below zero")

    @property
    def query_size(self) -> int:
        return self.head.shape[0]

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.bases.shape[1],)

    def tensors(self) -> dict[str, Tensor]:
        return {"bases": self.bases, "head": self.head, "centres": self.centres, "deviations": self.deviations}

    def sizes(self) -> dict[str, int]:
        """How many there are of each part, as a manifest states them."""
        return {"bases": len(self.bases), "centres": len(self.centres)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Setting]) -> Self:
        targets = Targets.from_tensors(tensors, settings["targets"])
        return cls(tensors["bases"], tensors["head"], tensors["centres"], tensors["deviations"], targets=targets)

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """One scale for each basis, and one for all numbers of a kind along each basis."""
        return {"bases": (0,), "centres": (2,)}.get(name, (1,))

    def items(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        found = (queries @ self.head @ self.bases).unsqueeze(1)
        return found if rows is None else found.expand(-1, rows.shape[1], -1)

    def span(self) -> Tensor:
        return self.bases

    def typical(self, queries: Tensor) -> Tensor:
        """The centres [q, r, D] of the classes of queries [q, C]."""
        return torch.einsum("qc,rck->qrk", queries, self.centres) @ self.bases
