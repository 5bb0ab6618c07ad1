"""The training data that an objective draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RealData:
    """Training items [N, *shape] in model space on the device, their labels [N], and the members of every class."""

    items: Tensor
    labels: Tensor
    members: tuple[Tensor, ...]

    @classmethod
    def of(cls, items: Tensor, labels: Tensor, classes: int) -> RealData:
        members = tuple(torch.nonzero(labels.cpu() == label).flatten() for label in range(classes))
        return cls(items, labels, members)

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


def draw_classes(total: int, count: int, generator: torch.Generator) -> Sequence[int]:
    """`count` of `total` classes in ascending order, without replacement."""
    chosen: list[int] = torch.randperm(total, generator=generator)[:count].tolist()
    return sorted(chosen)


def _draw(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    if count > len(members):
        return members[torch.randint(len(members), (count,), generator=generator)]
    return members[torch.randperm(len(members), generator=generator)[:count]]
