"""A stream from a folder of tasks, each a folder as for `recall-trainer distill --dataset`.

Tasks come in the order of their names, and may arrive while the stream is learned. Create a task's folder under a name
that begins with a dot, and rename it when it is complete.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import final

import torch

from recall_server.errors import InvalidDataset
from trainer.data.datasets import UNKNOWN_LICENCE, load_dataset
from trainer.data.splits import Split
from trainer.streams.sources.task import AbstractStream, Pictures, StreamTask, TaskHeader

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@final
class FolderStream(AbstractStream):
    """The stream of the sub-folders of `folder`; `tasks` is T, by default the number of folders.

    With `follow`, more tasks may arrive. With `validate`, learners are tested on held-out training pictures.
    `image_size` resizes all pictures.
    """

    licence = UNKNOWN_LICENCE

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        tasks: int | None = None,
        image_size: int | None = None,
        follow: bool = False,
        validate: bool = False,
    ) -> None:
        if not folder.is_dir():
            raise InvalidDataset(f"{str(folder)!r} is neither a folder of tasks nor the name of a stream")
        self.name = folder.resolve().name
        self._folder, self._seed, self._size = folder.resolve(), seed, image_size
        self.arriving, self._validate = follow, validate
        self._taken: list[str] = []
        found = self._names()
        if not found and not follow:
            raise InvalidDataset(f"{self.name} has no task; it must contain one folder per task, with class folders")
        if follow and tasks is None:
            raise InvalidDataset("--follow needs --tasks, the number of tasks that share the buffer")
        self.tasks = tasks or len(found)

    def task(self, number: int) -> StreamTask | None:
        if not 0 <= number < self.tasks:
            return None
        names = self._names()
        if number >= len(names):
            return None
        before, self._taken = self._taken, names[: max(number + 1, len(self._taken))]
        if self._taken[: len(before)] != before:
            self._taken = before
            new = next(name for name in names if name not in before)
            raise InvalidDataset(f"the task {new} comes before {before[-1]}, which was used; give it a later name")
        return self._read(names[number])

    def _names(self) -> list[str]:
        names = sorted(path.name for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        for name in names:
            if not NAME.fullmatch(name):
                raise InvalidDataset(f"{name!r} cannot name a bundle: use letters, digits, '.', '_' and '-'")
        return names

    def _read(self, name: str) -> StreamTask:
        dataset = load_dataset(str(self._folder / name), image_size=self._size, seed=self._seed)
        header = TaskHeader(name, dataset.classes, dataset.image_shape)
        test = dataset.validation if self._validate else dataset.test
        order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(self._seed))
        return StreamTask(header, pictures(dataset.train, order), pictures(test, torch.arange(len(test))))


def pictures(split: Split, order: torch.Tensor) -> Pictures:
    """The pictures of a split in the given order [n]."""
    return Pictures(split.images, order, split.labels[order])
