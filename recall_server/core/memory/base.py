"""AXIS 1 of the design: how stored tensors become training data.

A memory answers query vectors with items and their targets. An item is training data for classifiers: an image (C, H,
W) or a feature vector (D,). A query is a one-hot label, a mixture of labels, or the encoding of a picture; memories do
not distinguish them. Classes are abstract or final: a new container is a new final class.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final, NamedTuple, Self

import torch
from torch import Tensor

from recall_server.core.memory.lazy_items import LazyItems
from recall_server.core.memory.targets import Targets

LINEAR: Final = "linear"  # a mixture of queries recalls the mixture of their items
ITEMS: Final = "items"  # each item is stored by itself, so real items can be stored
CODES: Final = "codes"  # images are decoded from stored codes, and real images have codes too
VARIANTS: Final = "variants"  # adjacent rows are different images of the same stored base
BASES: Final = "bases"  # all items are in the span of shared bases, which new classes can use

Setting = int | float | str


class Recalled(NamedTuple):
    """`items` [q, n, *shape] in model space, and `targets` [q, n, q], where query j is class j.

    The targets are [q, 1, q] if all items of a query share one.
    """

    items: Tensor
    targets: Tensor


class LazilyRecalled(NamedTuple):
    """The same, but items may be computed on indexing."""

    items: Tensor | LazyItems
    targets: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class AbstractMemory(ABC):
    """Stored tensors that answer query vectors. `frozen` names the tensors that training does not change.

    Subclasses are frozen dataclasses. They raise ValueError for tensors or targets that do not match.
    """

    kind: ClassVar[str]
    traits: ClassVar[frozenset[str]] = frozenset()
    targets: Targets = Targets()
    frozen: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.check()
        self.targets.check(self.query_size, self.rows)

    def check(self) -> None:  # noqa: B027
        """Raise ValueError if the stored tensors do not match each other or the settings."""

    @property
    @abstractmethod
    def query_size(self) -> int:
        """d_y, the length of a query vector."""

    @property
    def rows(self) -> int:
        """r, the number of items that one query recalls."""
        return 1

    @property
    def variants(self) -> int:
        """The number of adjacent rows of one stored base; 1 for a memory without the trait `variants`."""
        return 1

    @property
    @abstractmethod
    def item_shape(self) -> tuple[int, ...]:
        """The shape of a recalled item: (channels, height, width) or (features,)."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by their documented names, including those of the targets."""

    def settings(self) -> dict[str, Setting]:
        """What is needed to rebuild this memory from its tensors (manifest: `memory.settings`)."""
        return {"targets": self.targets.form}

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Setting]) -> Self:
        """Rebuild a memory. Raises ValueError for shapes that do not match, and KeyError for missing tensors."""

    @abstractmethod
    def items(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        """Items [q, n, *shape] of queries [q, d_y], differentiable in queries and tensors.

        `rows` [q, n] are the rows to recall for each query; all of them, n = r, if None.
        """

    def recall(self, queries: Tensor, rows: Tensor | None = None) -> Recalled:
        """Items with their targets; arguments as for `items`."""
        return Recalled(self.items(queries, rows), self.targets.among(queries, rows))

    def recall_lazily(self, queries: Tensor) -> LazilyRecalled:
        """Like `recall` of all rows, up to rounding, but items may be computed on indexing."""
        return LazilyRecalled(self.items(queries), self.targets.among(queries))

    def learned(self) -> dict[str, Tensor]:
        """The tensors that training changes."""
        return {name: tensor for name, tensor in self.tensors().items() if name not in self.frozen}

    def span(self) -> Tensor:
        """The bases [K, *shape] of everything that is recalled. ValueError for a memory without the trait `bases`."""
        raise ValueError(f"a memory {self.kind} has no bases")

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """The dimensions of a tensor along which each index has its own scale when stored as int8.

        Numbers that share a scale should be similar in size.
        """
        return (0, 1) if name == "targets" else (0,)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a recalled image. Raises ValueError for feature vectors."""
        if len(self.item_shape) != 3:
            raise ValueError(f"this memory recalls vectors of {self.item_shape[0]} features, not images")
        channels, height, width = self.item_shape
        return channels, height, width

    def numbers_at_once(self) -> int:
        """The most numbers that one item takes while it is recalled: its own, or those of a wider layer."""
        return math.prod(self.item_shape)

    def stored_numbers(self) -> int:
        """The number of stored numbers, which the budget counts (paper, section 4)."""
        return sum(tensor.numel() for tensor in self.tensors().values())

    def with_targets(self, targets: Targets) -> Self:
        """The same items with other targets."""
        return replace(self, targets=targets)

    def with_frozen(self, names: Iterable[str]) -> Self:
        """The same memory, in which training does not change these tensors."""
        return replace(self, frozen=frozenset(names))

    def replace(self, tensors: Mapping[str, Tensor]) -> Self:
        """The same memory with other values of some or all tensors, such as leaves that require a gradient."""
        rebuilt = type(self).from_tensors(self.tensors() | dict(tensors), self.settings())
        return rebuilt.with_frozen(self.frozen)


def chosen_rows(items: Tensor, rows: Tensor | None) -> Tensor:
    """Items [q, n, ...] at `rows` [q, n] of all items [q, r, ...] of each query; all of them if None."""
    return items if rows is None else items[torch.arange(len(items), device=items.device).unsqueeze(1), rows]
