"""The interface of a stream: a sequence of tasks whose pictures are made on demand."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from recall_server.errors import InvalidDataset
from trainer.data.splits import ImageDataset, Split

MINIBATCH = 10  # samples per minibatch of a stream (paper, section 5.2)
LOOK_EVERY = 2.0  # seconds between two checks for a new task
CPU = torch.device("cpu")
CHUNK = 1_000  # pictures that are tested together

Change = Callable[[Tensor], Tensor]  # uint8 [N, C, H, W] -> uint8 [N, C, H, W]


def unchanged(images: Tensor) -> Tensor:
    """The pictures without a change."""
    return images


@dataclass(frozen=True, eq=False)
class Pictures:
    """A task's pictures: a selection from a shared source, with the task's own labels and transformation.

    `source` uint8 [M, C, H, W], `index` int64 [n] into it in the order of the stream, `labels` int64 [n].
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
        """Yield the pictures from position `start` on, in order, `size` at a time."""
        for begin in range(start, len(self), size):
            yield self.select(torch.arange(begin, min(begin + size, len(self))))


@dataclass(frozen=True)
class TaskHeader:
    """What a learner knows when a task begins; the number of samples is not known.

    Raises InvalidDataset for fewer than two classes and for repeated class names.
    """

    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]  # (channels, height, width)

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise InvalidDataset(f"the task {self.name} has {len(self.classes)} class; a classifier needs two or more")
        if len(set(self.classes)) != len(self.classes):
            raise InvalidDataset(f"the task {self.name} has two classes of the same name")

    @classmethod
    def of(cls, name: str, classes: Iterable[str], image_shape: Sequence[int]) -> Self:
        """From plain values, as checkpoints have them."""
        channels, height, width = image_shape
        return cls(name, tuple(classes), (channels, height, width))

    @property
    def image_numbers(self) -> int:
        return math.prod(self.image_shape)

    def dataset(self) -> ImageDataset:
        """The task as a data set whose pictures are still to come."""
        empty = Split(torch.empty(0, *self.image_shape, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
        return ImageDataset(self.name, self.classes, empty, empty, empty, digest="", licence="")


@dataclass(frozen=True, eq=False)
class StreamTask:
    """One task: its samples in the order of the stream, and its test pictures."""

    header: TaskHeader
    train: Pictures
    test: Pictures


class AbstractStream(ABC):
    """A sequence of tasks; the same number always gives the same task. `tasks` of them share the buffer."""

    name: str
    licence: str
    tasks: int
    arriving: bool = False  # whether tasks that do not exist yet may still arrive

    @abstractmethod
    def task(self, number: int) -> StreamTask | None:
        """The task with this number, counted from 0, or None if there is none."""

    def await_task(
        self, number: int, *, stopped: Callable[[], bool] = lambda: False, wait: Callable[[float], None] = time.sleep
    ) -> StreamTask | None:
        """Like `task`, but wait for a task that may still arrive, until `stopped` returns True."""
        task = self.task(number)
        while task is None and self.arriving and number < self.tasks and not stopped():
            wait(LOOK_EVERY)
            task = self.task(number)
        return task

    def classes(self) -> tuple[str, ...]:
        """The distinct class names of all tasks, in order of appearance."""
        names: dict[str, None] = {}
        for number in range(self.tasks):
            task = self.task(number)
            names |= dict.fromkeys(task.header.classes if task else ())
        return tuple(names)
