"""A method, built: the memory, how classes address it, and the objective that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from torch import Tensor

from recall_server.core.memory import AbstractMemory, Storage
from recall_server.core.memory.storage import fake_quantise
from trainer.objectives.base import AbstractObjective
from trainer.objectives.queries import AbstractQueries, leaf
from trainer.objectives.real_data import AbstractRealData
from trainer.objectives.sampler import Sampler


@final
@dataclass(frozen=True, eq=False)
class Components:
    """What an outer loop trains. The learned tensors of all three are leaves that the loop changes in place."""

    memory: AbstractMemory
    queries: AbstractQueries
    objective: AbstractObjective

    @classmethod
    def of(cls, memory: AbstractMemory, queries: AbstractQueries, objective: AbstractObjective) -> Self:
        """Components with a copy of the memory that can be trained. ValueError where the objective cannot train it."""
        missing = sorted(objective.requires - memory.traits)
        if missing:
            raise ValueError(f"the objective needs a memory that is {missing[0]}; {memory.kind} is not")
        return cls(memory.replace({name: leaf(value) for name, value in memory.learned().items()}), queries, objective)

    @property
    def device(self) -> torch.device:
        return next(iter(self.memory.tensors().values())).device

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is optimised, by name."""
        return self.memory.learned() | self.queries.learned() | self.objective.learned()

    def sampler(self, real: AbstractRealData, storage: Storage = "float32") -> Sampler:
        """The objective's sampler. It recalls as a file of this storage would; gradients pass to the exact numbers."""
        return Sampler(fake_quantise(self.memory, storage), self.queries, real)

    def as_stored(self, storage: Storage) -> Self:
        """The same with the memory that a file of this storage would hold; not to be optimised."""
        with torch.no_grad():
            return replace(self, memory=fake_quantise(self.memory, storage))

    def memory_of(self, tensors: Mapping[str, Tensor]) -> AbstractMemory:
        """The memory on the CPU, with the learned tensors as they are in `tensors`."""
        kept = {name: value.detach().cpu() for name, value in self.memory.tensors().items()}
        return self.memory.replace(kept | {name: tensors[name] for name in self.memory.learned()})
