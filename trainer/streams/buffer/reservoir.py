"""Reservoir sampling: every sample seen so far is kept with the same probability (Vitter, 1985)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Reservoir:
    """At most `capacity` samples: `values` [n, *shape] with integer `labels` [n].

    `seen` counts all samples that were offered. A capacity of 0 keeps nothing.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], generator: torch.Generator) -> None:
        if capacity < 0:
            raise ValueError(f"the capacity of a reservoir must be 0 or more, not {capacity}")
        self.capacity = capacity
        self.values = torch.empty(0, *shape)
        self.labels = torch.empty(0, dtype=torch.int64)
        self.seen = 0
        self._generator = generator

    def __len__(self) -> int:
        return len(self.labels)

    def offer(self, values: Tensor, labels: Tensor) -> None:
        """Offer samples [n, *shape] with labels [n]; each is kept with the reservoir's probability."""
        free = max(0, self.capacity - len(self))
        self.values = torch.cat([self.values, values[:free]])
        self.labels = torch.cat([self.labels, labels[:free]])
        self.seen += min(free, len(labels))
        for value, label in zip(values[free:], labels[free:], strict=True):
            self.seen += 1
            place = int(torch.randint(self.seen, (), generator=self._generator))
            if place < self.capacity:
                self.values[place], self.labels[place] = value, label

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """`count` distinct random samples, or all if there are fewer."""
        chosen = torch.randperm(len(self), generator=self._generator)[:count]
        return self.values[chosen], self.labels[chosen]

    def tensors(self) -> dict[str, Tensor]:
        """The state, without the generator, which belongs to the owner. Files cannot store empty tensors."""
        kept = {"values": self.values, "labels": self.labels} if self.values.numel() else {}
        return kept | {"seen": torch.tensor(self.seen)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state from `tensors()`. Raises KeyError or ValueError for anything else."""
        seen = int(tensors["seen"])
        values, labels = tensors.get("values", self.values[:0]), tensors.get("labels", self.labels[:0])
        if values.shape[1:] != self.values.shape[1:] or len(values) != len(labels) or len(labels) > self.capacity:
            raise ValueError(f"{list(values.shape)} are not the samples of this reservoir")
        self.values, self.labels, self.seen = values.clone(), labels.clone(), seen
