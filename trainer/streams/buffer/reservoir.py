"""Reservoir sampling: every sample seen so far is kept with the same probability (Vitter, 1985)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor


class AbstractSamples(ABC):
    """Samples in model space, kept by reservoir sampling."""

    @abstractmethod
    def __len__(self) -> int:
        """How many samples are kept."""

    @abstractmethod
    def offer(self, images: Tensor, labels: Tensor) -> None:
        """Offer samples [n, C, H, W] with labels [n] to the reservoir."""

    @abstractmethod
    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """`count` distinct random samples [n, C, H, W] with labels [n], or all if there are fewer."""

    @abstractmethod
    def numbers(self) -> int:
        """How many numbers are stored."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The state, without the generator, which belongs to the owner."""

    @abstractmethod
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state from `tensors()`. Raises KeyError or ValueError for anything else."""


@final
class Reservoir(AbstractSamples):
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
        chosen = torch.randperm(len(self), generator=self._generator)[:count]
        return self.values[chosen], self.labels[chosen]

    def numbers(self) -> int:
        return self.values.numel()

    def tensors(self) -> dict[str, Tensor]:
        # Files cannot store empty tensors.
        kept = {"values": self.values, "labels": self.labels} if self.values.numel() else {}
        return kept | {"seen": torch.tensor(self.seen)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        seen = int(tensors["seen"])
        values, labels = tensors.get("values", self.values[:0]), tensors.get("labels", self.labels[:0])
        if values.shape[1:] != self.values.shape[1:] or len(values) != len(labels) or len(labels) > self.capacity:
            raise ValueError(f"{list(values.shape)} are not the samples of this reservoir")
        self.values, self.labels, self.seen = values.clone(), labels.clone(), seen
