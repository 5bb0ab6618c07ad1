"""The training data that an objective draws from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor


class ClassQueries(NamedTuple):
    """`vectors` [q, d_y], and indices [q, n] of real items of the same classes that took no part in the queries."""

    vectors: Tensor
    others: Tensor


class RealBatch(NamedTuple):
    """Queries [q, d_y] of q classes, and real items [n, *shape] of these classes with one-hot targets [n, q]."""

    queries: Tensor
    items: Tensor
    targets: Tensor


DrawQueries = Callable[["RealData", Sequence[int], int, torch.Generator], ClassQueries]


class AbstractRealData(ABC):
    """Items [N, *shape] in model space on the device with labels [N], of so many `classes`."""

    items: Tensor
    labels: Tensor

    @property
    @abstractmethod
    def classes(self) -> int:
        """How many classes there are."""

    @abstractmethod
    def draw_classes(self, count: int, generator: torch.Generator) -> Sequence[int]:
        """`count` classes in ascending order, all of them where it is 0."""

    @abstractmethod
    def batch(self, draw: DrawQueries, classes: Sequence[int], count: int, generator: torch.Generator) -> RealBatch:
        """Queries of these classes, by `draw` where they need real items, and about `count` items of each class."""


@final
@dataclass(frozen=True)
class RealData(AbstractRealData):
    """All training items. `members` are the indices of every class."""

    items: Tensor
    labels: Tensor
    members: tuple[Tensor, ...]

    @classmethod
    def of(cls, items: Tensor, labels: Tensor, classes: int) -> RealData:
        members = tuple(torch.nonzero(labels.cpu() == label).flatten() for label in range(classes))
        return cls(items, labels, members)

    @property
    def classes(self) -> int:
        return len(self.members)

    def draw_classes(self, count: int, generator: torch.Generator) -> Sequence[int]:
        chosen: list[int] = torch.randperm(self.classes, generator=generator)[: count or self.classes].tolist()
        return sorted(chosen)

    def batch(self, draw: DrawQueries, classes: Sequence[int], count: int, generator: torch.Generator) -> RealBatch:
        """The items are `count` of each class, class after class."""
        vectors, index = draw(self, classes, count, generator)
        targets = torch.eye(len(classes), device=self.items.device).repeat_interleave(index.shape[1], dim=0)
        return RealBatch(vectors, self.items[index.flatten().to(self.items.device)], targets)

    def draw(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """Indices [count] of items of one class, without replacement while there are enough."""
        return _draw(self.members[label], count, generator)

    def draw_disjoint(self, label: int, shots: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices [shots] of items of one class, and [count] of others; no item is in both.

        Of a class with too few items at most half are in the first part, and some repeat within each part.
        """
        members = self.members[label]
        members = members[torch.randperm(len(members), generator=generator)]
        shown = min(shots, len(members) // 2)
        return _draw(members[:shown], shots, generator), _draw(members[shown:], count, generator)


def _draw(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    if count > len(members):
        return members[torch.randint(len(members), (count,), generator=generator)]
    return members[torch.randperm(len(members), generator=generator)[:count]]
