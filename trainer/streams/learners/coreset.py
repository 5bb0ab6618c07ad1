"""The coreset baseline: keeps random real images of each class and trains a fresh network on them."""

from __future__ import annotations

from dataclasses import astuple
from typing import final

import torch

from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.retraining import Retraining
from recall_server.errors import InvalidDataset
from trainer.data.splits import Split
from trainer.streams.buffer.reservoir import Reservoir
from trainer.streams.learners import learner
from trainer.streams.learners.learner import AbstractStreamLearner, Allowance, State
from trainer.streams.sources.task import TaskHeader


@final
class Coreset(AbstractStreamLearner):
    """Keeps as many samples per class as fit in a task's share of the buffer, by reservoir sampling.

    The network and its schedule are the same as for recalled images.
    """

    name = "real images"
    settled = True

    def __init__(self, retraining: Retraining, preprocessing: AbstractPreprocessing, allowance: Allowance) -> None:
        self.preprocessing, self.device = preprocessing, allowance.device
        self._retraining, self._seed = retraining, allowance.seed
        self._share = allowance.capacity // allowance.tasks
        self._generator = torch.Generator().manual_seed(allowance.seed)
        self._tasks: list[tuple[TaskHeader, list[Reservoir]]] = []

    def begin(self, header: TaskHeader) -> None:
        each = self._share // (header.image_numbers * len(header.classes))
        if each < 1:
            raise ValueError(f"a share of {self._share} numbers is too small for an image per class of {header.name}")
        self._tasks.append((header, [self._reservoir(header, each) for _ in header.classes]))

    def _reservoir(self, header: TaskHeader, each: int) -> Reservoir:
        return Reservoir(each, header.image_shape, self._generator)

    def observe(self, batch: Split) -> None:
        images = self.preprocessing.to_model(batch.pixels())
        for label, kept in enumerate(self._tasks[-1][1]):
            chosen = batch.labels == label
            kept.offer(images[chosen], batch.labels[chosen])

    def finish(self) -> None:
        header, reservoirs = self._tasks[-1]
        for name, kept in zip(header.classes, reservoirs, strict=True):
            if not len(kept):
                raise InvalidDataset(f"the task {header.name} ended without a sample of {name}")

    def predictor(self, number: int) -> learner.Predict:
        header, reservoirs = self._tasks[number]
        rows = min(len(kept) for kept in reservoirs)
        images = torch.stack([kept.values[:rows] for kept in reservoirs])
        return learner.fresh_predictor(
            images, header, self.preprocessing, self._retraining, seed=self._seed + number, device=self.device
        )

    def numbers(self) -> int:
        return sum(kept.numbers() for _, reservoirs in self._tasks for kept in reservoirs)

    def state(self) -> State:
        headers = [[*astuple(header), reservoirs[0].capacity] for header, reservoirs in self._tasks]
        tensors = {"generator": self._generator.get_state()}
        for number, (_, reservoirs) in enumerate(self._tasks):
            for label, kept in enumerate(reservoirs):
                tensors |= learner.prefixed(f"{number}.{label}", kept.tensors())
        return State({"tasks": headers}, tensors)

    def restore(self, state: State) -> None:
        self._tasks = []
        for number, (*plain, each) in enumerate(state.values["tasks"]):
            header = TaskHeader.of(*plain)
            reservoirs = [self._reservoir(header, each) for _ in header.classes]
            for label, kept in enumerate(reservoirs):
                kept.restore(learner.with_prefix(f"{number}.{label}", state.tensors))
            self._tasks.append((header, reservoirs))
        self._generator.set_state(state.tensors["generator"])
