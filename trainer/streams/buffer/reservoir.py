"""Reservoir sampling: of everything that came so far, every sample is kept with the same probability (Vitter, 1985)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Reservoir:
    """At most `capacity` samples: `values` [n, *shape], and the integers `labels` [n] that go with them.

    `seen` counts everything that was offered. Capacity 0 keeps nothing.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], generator: torch.Generator) -> None:
        if capacity < 0:
            raise ValueError(f"a reservoir holds 0 samples or more, not {capacity}")
        self.capacity = capacity
        self.values = torch.empty(0, *shape)
        self.labels = torch.empty(0, dtype=torch.int64)
        self.seen = 0
        self._generator = generator

    def __len__(self) -> int:
        return len(self.labels)

    def offer(self, values: Tensor, labels: Tensor) -> None:
        """Take in some of the samples [n, *shape] with labels [n], or none of them."""
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
        """`count` different samples at random, or all where there are fewer."""
        chosen = torch.randperm(len(self), generator=self._generator)[:count]
        return self.values[chosen], self.labels[chosen]

    def tensors(self) -> dict[str, Tensor]:
        """All that must be kept to go on later; the generator is its owner's. No file takes tensors without numbers."""
        kept = {"values": self.values, "labels": self.labels} if self.values.numel() else {}
        return kept | {"seen": torch.tensor(self.seen)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where `tensors` left off. Raises KeyError or ValueError for what is not its state."""
        seen = int(tensors["seen"])
        values, labels = tensors.get("values", self.values[:0]), tensors.get("labels", self.labels[:0])
        if values.shape[1:] != self.values.shape[1:] or len(values) != len(labels) or len(labels) > self.capacity:
            raise ValueError(f"{list(values.shape)} are not the samples of this reservoir")
        self.values, self.labels, self.seen = values.clone(), labels.clone(), seen
