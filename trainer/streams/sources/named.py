"""The streams of the literature by name (paper, section 5.2 and Table 5).

MNIST Rotations and Permutations follow their authors (Lopez-Paz and Ranzato, 2017; Kirkpatrick et al., 2017): every
task has its own samples. The angle of a rotation grows with the task's number, with nearest-neighbour interpolation. A
permutation is the same for all pictures of a task. For MANY, the paper's text and its authors (Riemer et al., 2019)
have 200 samples per task, and the paper's Table 5 has 1,000: `many` and `many-1000`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from recall_server.errors import InvalidDataset
from trainer.data.datasets import load_dataset
from trainer.data.splits import ImageDataset, Split
from trainer.streams.sources.task import AbstractStream, Change, Pictures, StreamTask, TaskHeader, unchanged

LARGEST_ANGLE = 180.0
Kind = Literal["rotations", "permutations", "splits"]


@dataclass(frozen=True)
class StreamSpec:
    """A named stream; `memory` is the size of the whole buffer in real images (paper, Table 5)."""

    dataset: str
    kind: Kind
    tasks: int
    samples: int
    memory: int


STREAMS: Mapping[str, StreamSpec] = {
    "rotations": StreamSpec("mnist", "rotations", 20, 1_000, 200),
    "permutations": StreamSpec("mnist", "permutations", 20, 1_000, 200),
    "many": StreamSpec("mnist", "permutations", 100, 200, 1_000),
    "many-1000": StreamSpec("mnist", "permutations", 100, 1_000, 1_000),
    "cifar100": StreamSpec("cifar100", "splits", 20, 2_250, 200),
    "rotations-60000": StreamSpec("mnist", "rotations", 20, 60_000, 200),
    "permutations-60000": StreamSpec("mnist", "permutations", 20, 60_000, 200),
    "digits-rotations": StreamSpec("digits", "rotations", 5, 500, 50),  # for experiments that take seconds
}


def named_stream(
    name: str, *, seed: int, tasks: int | None = None, samples: int | None = None, **options: bool
) -> NamedStream:
    """A stream of the literature, optionally with another length. Raises InvalidDataset for an unknown name."""
    if name not in STREAMS:
        raise InvalidDataset(f"unknown stream {name!r}; known streams: {', '.join(STREAMS)}, or a folder of tasks")
    spec = STREAMS[name]
    dataset = load_dataset(spec.dataset)
    return NamedStream(name, spec, dataset, seed=seed, tasks=tasks, samples=samples, **options)


@final
class NamedStream(AbstractStream):
    """Tasks drawn from one data set by a seed. The data set is in memory once, whatever the number of tasks.

    With `validate`, learners are tested on held-out training pictures.
    """

    def __init__(
        self,
        name: str,
        spec: StreamSpec,
        dataset: ImageDataset,
        *,
        seed: int,
        tasks: int | None = None,
        samples: int | None = None,
        validate: bool = False,
    ) -> None:
        self.name, self.licence = name, dataset.licence
        self._dataset, self._spec, self._seed = dataset, spec, seed
        self.tasks, self._samples = tasks or spec.tasks, samples or spec.samples
        self._train, self._test = dataset.train, dataset.validation
        if not validate:
            self._train, self._test = joined(dataset.train, dataset.validation), dataset.test
        if spec.kind == "splits" and len(dataset.classes) % spec.tasks:
            raise InvalidDataset(f"{len(dataset.classes)} classes cannot be split into {spec.tasks} tasks")
        most = spec.tasks if spec.kind == "splits" else self.tasks
        if not 1 <= self.tasks <= most:
            raise InvalidDataset(f"the stream {name} has 1 to {most} tasks, not {self.tasks}")

    def task(self, number: int) -> StreamTask | None:
        if not 0 <= number < self.tasks:
            return None
        generator = torch.Generator().manual_seed(_mixed(self._seed, number))
        change = self._change(number, generator)
        classes = self._classes(number)
        header = TaskHeader(f"{self.name}-{number:03d}", classes, self._dataset.image_shape)
        train, test = (self._members(split, classes) for split in (self._train, self._test))
        drawn = train[torch.randperm(len(train), generator=generator)[: self._samples]]
        return StreamTask(
            header,
            self._pictures(self._train, drawn, classes, change),
            self._pictures(self._test, test, classes, change),
        )

    def _classes(self, number: int) -> tuple[str, ...]:
        if self._spec.kind != "splits":
            return self._dataset.classes
        each = len(self._dataset.classes) // self._spec.tasks
        return self._dataset.classes[number * each : (number + 1) * each]

    def _members(self, split: Split, classes: tuple[str, ...]) -> Tensor:
        """Positions [n] of the pictures of these classes, which must be consecutive in the data set."""
        first = self._dataset.classes.index(classes[0])
        return torch.nonzero((split.labels >= first) & (split.labels < first + len(classes))).flatten()

    def _pictures(self, split: Split, index: Tensor, classes: tuple[str, ...], change: Change) -> Pictures:
        return Pictures(split.images, index, split.labels[index] - self._dataset.classes.index(classes[0]), change)

    def _change(self, number: int, generator: torch.Generator) -> Change:
        if self._spec.kind == "rotations":
            share = (number + float(torch.rand((), generator=generator))) / self.tasks
            return rotation(LARGEST_ANGLE * share)
        if self._spec.kind == "permutations":
            return permutation(torch.randperm(self._dataset.image_numbers, generator=generator))
        return unchanged


def rotation(degrees: float) -> Change:
    """Rotates pictures about their centre, with nearest-neighbour interpolation and black corners."""
    from torchvision.transforms.v2.functional import rotate  # noqa: PLC0415  (the extra `trainer`)

    def change(images: Tensor) -> Tensor:
        rotated: Tensor = rotate(images, degrees)
        return rotated

    return change


def permutation(order: Tensor) -> Change:
    """Moves the pixel `order[i]` of every picture to position i."""

    def change(images: Tensor) -> Tensor:
        return images.flatten(1)[:, order].view_as(images)

    return change


def joined(one: Split, other: Split) -> Split:
    """Both splits as one."""
    return Split(torch.cat([one.images, other.images]), torch.cat([one.labels, other.labels]))


def _mixed(seed: int, number: int) -> int:
    """A distinct seed for every task of every stream seed."""
    return seed * 1_000_003 + number
