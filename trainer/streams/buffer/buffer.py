"""The buffer of a stream: finished memories and real samples, within a fixed number of stored floats.

The floats of bases, addressing matrices and samples count. Labels do not, as in the paper and its baselines. The memory
under construction is working state, like the network that a replay method trains, and so is the current minibatch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from recall_server.core.io.tensor_file import with_prefix
from recall_server.core.memory import AbstractMemory, Setting
from trainer.methods.specs.budget import MemoryBudget
from trainer.streams.buffer.reservoir import AbstractSamples
from trainer.streams.methods import StreamMethod
from trainer.streams.sources.task import TaskHeader


@dataclass
class Buffer:
    """A buffer of `capacity` numbers for `tasks` tasks; a finished task takes 1/T of it (paper, B.2)."""

    capacity: int
    tasks: int
    memories: list[AbstractMemory] = field(default_factory=list)
    samples: AbstractSamples | None = None

    @property
    def share(self) -> int:
        """How many numbers a finished task may take."""
        return self.capacity // self.tasks

    def numbers(self) -> int:
        """How many numbers are stored now."""
        samples = 0 if self.samples is None else self.samples.numbers()
        return samples + sum(memory.stored_numbers() for memory in self.memories)

    def budget(self, header: TaskHeader, method: StreamMethod) -> MemoryBudget:
        """The largest memory of a task within its share.

        Raises ValueError if the share is too small, with the smallest buffer that works, or if all shares are taken.
        """
        if len(self.memories) >= self.tasks:
            raise ValueError(
                f"the buffer is shared by {self.tasks} tasks and all shares are taken; {header.name} needs a buffer "
                "for more tasks"
            )
        shape, bases = method.shape(header.dataset()), method.memory.size(method.stream.bases)
        rows = method.memory.largest(shape, self.share, bases)
        if rows < 1:
            least = self.tasks * method.memory.numbers(shape, bases, 1)
            raise ValueError(
                f"a buffer of {self.capacity} numbers leaves {self.share} for each of {self.tasks} tasks, too few for "
                f"the {bases} bases of {header.name}; the smallest that works has {least} numbers, or "
                f"{least / header.image_numbers:.1f} real images"
            )
        return MemoryBudget(self.share / (header.image_numbers * len(header.classes)), bases, rows)

    @property
    def free(self) -> int:
        """How many numbers the finished memories leave free."""
        return self.capacity - sum(memory.stored_numbers() for memory in self.memories)

    def close(self, memory: AbstractMemory) -> None:
        """Replace the samples of the current task by its memory."""
        if memory.stored_numbers() > self.share:
            raise ValueError(f"a memory of {memory.stored_numbers()} numbers does not fit in a share of {self.share}")
        self.samples = None
        self.memories.append(memory)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the finished memories, by name; the samples are saved separately."""
        return {
            f"{number}.{name}": value
            for number, memory in enumerate(self.memories)
            for name, value in memory.tensors().items()
        }

    def restore(
        self, kind: type[AbstractMemory], tensors: Mapping[str, Tensor], settings: Sequence[Mapping[str, Setting]]
    ) -> None:
        """Restore the finished memories of a kind from their tensors and settings."""
        self.memories = [
            kind.from_tensors({name: value.clone() for name, value in with_prefix(f"{number}.", tensors).items()}, each)
            for number, each in enumerate(settings)
        ]
