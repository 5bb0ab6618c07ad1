"""Small streams: bright bars in 8x8 grey pictures, three classes, in a different order for each task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from recall_server.core.preprocessing import Standardise
from trainer.data.splits import Split
from trainer.streams.learners.compress import CompressThenRecall
from trainer.streams.learners.learner import AbstractStreamLearner, Allowance, State
from trainer.streams.methods import StreamMethod, compose_stream
from trainer.streams.sources.task import CPU, AbstractStream, Pictures, StreamTask, TaskHeader

Learner = TypeVar("Learner", bound=AbstractStreamLearner)
CLASSES = ("top", "middle", "bottom")
SHAPE = (1, 8, 8)
PLAIN = Standardise(torch.tensor([0.0]), torch.tensor([0.25]))
SMALL = [
    "objective.network=mlp:hidden=16", "retraining.network=mlp:hidden=16", "stream.bases=4", "objective.steps=6",
    "objective.window=3", "objective.rate=0.1", "objective.real_batch=20", "outer.steps=1", "stream.start_after=20",
    "retraining.learning_rate=0.1", "retraining.steps=40",
]  # fmt: skip
CONVNET = [
    "objective=unrolled", "objective.network=convnet:filters=4,depth=1",
    *(override for override in SMALL if override.startswith("objective.") and "network" not in override),
]  # fmt: skip


def method_of(*overrides: str, method: str = "window") -> StreamMethod:
    return compose_stream(method, "rotations", [*SMALL, *overrides])


def learner(
    *overrides: str, method: str = "window", tasks: int = 2, images: int = 6, device: torch.device = CPU
) -> CompressThenRecall:
    """With a buffer of so many real images for each task."""
    return CompressThenRecall(
        method_of(*overrides, method=method), PLAIN, Allowance(images * 64 * tasks, tasks, 0, device)
    )


def bars(count: int, seed: int, side: int = 8) -> Split:
    """Balanced classes; the order of the bars depends on the seed."""
    random = np.random.default_rng(seed)
    places = random.permutation(3)
    labels = np.arange(count) % 3
    images = random.integers(0, 80, size=(count, 1, side, side), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, 3 * places[label] : 3 * places[label] + 2] += 160
    return Split(torch.from_numpy(images), torch.from_numpy(labels))


def header(name: str = "bars-0", classes: tuple[str, ...] = CLASSES, shape: tuple[int, int, int] = SHAPE) -> TaskHeader:
    return TaskHeader(name, classes, shape)


class BarStream(AbstractStream):
    """Tasks of `samples` bars each, `planned` of them although fewer may come."""

    name, licence = "bars", "none"

    def __init__(self, tasks: int = 2, samples: int = 60, *, planned: int | None = None) -> None:
        self._count, self._samples, self.tasks = tasks, samples, planned or tasks

    def every(self) -> list[StreamTask]:
        """All tasks that exist."""
        return [task for number in range(self._count) if (task := self.task(number))]

    def task(self, number: int) -> StreamTask | None:
        if not 0 <= number < self._count:
            return None
        both = bars(self._samples + 90, seed=number)
        order = torch.arange(len(both))
        train, test = order[: self._samples], order[self._samples :]
        return StreamTask(
            header(f"bars-{number}"),
            Pictures(both.images, train, both.labels[train]),
            Pictures(both.images, test, both.labels[test]),
        )


def learn(learner: AbstractStreamLearner, *tasks: StreamTask) -> None:
    """Learn the tasks, in minibatches of ten."""
    for task in tasks:
        learner.begin(task.header)
        for batch in task.train.chunks(10):
            learner.observe(batch)
        learner.finish()


def learn_with_stops(make: Callable[[], Learner], *tasks: StreamTask) -> Learner:
    """The same, where a new learner goes on from the state of the last one after every minibatch."""
    learner = make()
    for task in tasks:
        learner.begin(task.header)
        for batch in task.train.chunks(10):
            learner.observe(batch)
            state = learner.state()
            learner = make()
            learner.restore(state)
        learner.finish()
    return learner


def same_bits(one: State, other: State) -> bool:
    """Whether the tensors of two states are equal."""
    tensors = one.tensors.keys() == other.tensors.keys()
    return tensors and all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def write_task(folder: Path, seed: int, *, side: int = 8, classes: tuple[str, ...] = CLASSES) -> Path:
    """A task of a person's own, as archives."""
    folder.mkdir(parents=True)
    for split, count in (("train", 60), ("test", 30)):
        made = bars(count, seed, side)
        images = made.images.numpy().transpose(0, 2, 3, 1)
        labels = np.minimum(made.labels.numpy(), len(classes) - 1)
        np.savez(folder / f"{split}.npz", images=images, labels=labels, classes=np.array(classes))
    return folder
