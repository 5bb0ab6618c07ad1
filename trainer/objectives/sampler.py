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
from trainer.objectives.real_data import RealData, draw_classes


@dataclass(frozen=True)
class OuterBatch:
    """What q classes recall, and real items [q * n, *shape] of the same classes with one-hot targets [q * n, q].

    All in model space, class after class. `pretrained` are the layers, all but the last, that inner networks begin
    with; None where they begin at random.
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
    real: RealData

    @property
    def classes(self) -> int:
        """How many classes the real data have."""
        return len(self.real.members)

    def draw_classes(self, count: int, generator: torch.Generator) -> Sequence[int]:
        """`count` classes, all of them where it is 0."""
        return draw_classes(self.classes, count or self.classes, generator)

    def batch(self, classes: Sequence[int], count: int, generator: torch.Generator) -> OuterBatch:
        """Recall for these classes, with `count` real items of each that are not among the query's own."""
        vectors, index = self.queries.draw(self.real, classes, count, generator)
        targets = torch.eye(len(classes), device=self.real.items.device).repeat_interleave(index.shape[1], dim=0)
        items = self.real.items[index.flatten().to(self.real.items.device)]
        return OuterBatch(self.memory.recall(vectors), items, targets, self.queries.pretrained())
