"""What a stream is made of: tasks, one after another, whose pictures are made only when they are asked for."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recall_server.errors import InvalidDataset
from trainer.data.splits import Split

MINIBATCH = 10  # samples that a stream hands out at a time (paper, section 5.2)
LOOK_EVERY = 2.0  # seconds between two looks where tasks keep arriving
CPU = torch.device("cpu")
CHUNK = 1_000  # pictures at a time where a whole test set is gone through

Change = Callable[[Tensor], Tensor]  # uint8 [N, C, H, W] -> uint8 [N, C, H, W]


def unchanged(images: Tensor) -> Tensor:
    """Pictures as they are."""
    return images


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some pictures of a shared source, under a task's own labels and through the task's own change.

    `source` uint8 [M, C, H, W], `index` int64 [n] into it, in the order in which they come, `labels` int64 [n].
    """

    source: Tensor
    index: Tensor
    labels: Tensor
    change: Change = unchanged

    def __len__(self) -> int:
        return len(self.index)

    def select(self, positions: Tensor) -> Split:
        """The pictures at these positions [m]."""
        return Split(self.change(self.source[self.index[positions]]), self.labels[positions])

    def chunks(self, size: int, start: int = 0) -> Iterator[Split]:
        """All of them from a position on, in order, `size` at a time."""
        for begin in range(start, len(self), size):
            yield self.select(torch.arange(begin, min(begin + size, len(self))))


@dataclass(frozen=True)
class TaskHeader:
    """What a learner is told when a task begins. How many samples will come is not part of it.

    Raises InvalidDataset for a task that no classifier can be trained for.
    """

    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]  # (channels, height, width)

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise InvalidDataset(f"the task {self.name} has {len(self.classes)} class; a classifier needs two or more")
        if len(set(self.classes)) != len(self.classes):
            raise InvalidDataset(f"the task {self.name} names a class twice")

    @property
    def image_numbers(self) -> int:
        channels, height, width = self.image_shape
        return channels * height * width


@dataclass(frozen=True, eq=False)
class StreamTask:
    """One task: its samples in the order of the stream, and the pictures that it is judged on."""

    header: TaskHeader
    train: Pictures
    test: Pictures


class AbstractStream(ABC):
    """Tasks by number, in order; a task may be made again at any time and is the same."""

    name: str
    licence: str
    arriving: bool = False  # whether a task that is not there yet may still come

    @abstractmethod
    def task(self, number: int) -> StreamTask | None:
        """The task of that number, from 0, or None when there is none."""

    def await_task(
        self, number: int, *, stopped: Callable[[], bool] = lambda: False, wait: Callable[[float], None] = time.sleep
    ) -> StreamTask | None:
        """The same, but a task that may still come is waited for until `stopped` says so."""
        task = self.task(number)
        while task is None and self.arriving and number < self.tasks and not stopped():
            wait(LOOK_EVERY)
            task = self.task(number)
        return task

    @property
    @abstractmethod
    def tasks(self) -> int:
        """T: among how many tasks the buffer is shared."""

    def classes(self) -> tuple[str, ...]:
        """The names of all classes of all tasks, each once, in the order in which they appear."""
        names: dict[str, None] = {}
        for number in range(self.tasks):
            task = self.task(number)
            names |= dict.fromkeys(task.header.classes if task else ())
        return tuple(names)
