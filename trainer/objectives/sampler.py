"""What an objective may ask for: recalled items, and real ones of the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.memory import AbstractMemory, Recalled
from recall_server.core.networks import Parameters
from trainer.objectives.queries import AbstractQueries
from trainer.objectives.real_data import AbstractRealData, RealBatch


@dataclass(frozen=True)
class OuterBatch:
    """What q classes recall, and real items [n, *shape] of the same classes with one-hot targets [n, q].

    All in model space; those of a data set class after class. `pretrained` are the layers, all but the last, that inner
    networks begin with; None where they begin at random.
    """

    recalled: Recalled
    items: Tensor
    targets: Tensor
    pretrained: Parameters | None = None


@final
@dataclass(frozen=True, eq=False)
class Sampler:
    """The memory as the outer loss sees it, how classes address it, and the real data."""

    memory: AbstractMemory
    queries: AbstractQueries
    real: AbstractRealData

    @property
    def classes(self) -> int:
        """How many classes the real data have."""
        return self.real.classes

    def draw_classes(self, count: int, generator: torch.Generator) -> Sequence[int]:
        """`count` classes, all of them where it is 0."""
        return self.real.draw_classes(count, generator)

    def draw_batch(self, items: int, generator: torch.Generator, *, classes: int = 0) -> OuterBatch:
        """The batch of so many drawn classes (0: all), with about `items` real items, at least one of each class."""
        drawn = self.draw_classes(classes, generator)
        return self.batch(drawn, max(1, items // len(drawn)), generator)

    def draw_all(self, count: int, generator: torch.Generator) -> OuterBatch:
        """The batch of all classes, with `count` real items of each."""
        return self.batch(self.draw_classes(0, generator), count, generator)

    def batch(self, classes: Sequence[int], count: int, generator: torch.Generator) -> OuterBatch:
        """Recall for these classes, with `count` real items of each that are not among the query's own."""
        vectors, items, targets = self.real_batch(classes, count, generator)
        return OuterBatch(self.memory.recall(vectors), items, targets, self.queries.pretrained())

    def real_batch(self, classes: Sequence[int], count: int, generator: torch.Generator) -> RealBatch:
        """The same without recalling anything."""
        return self.real.batch(self.queries.draw, classes, count, generator)
