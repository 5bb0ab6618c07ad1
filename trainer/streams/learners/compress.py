"""Compress-then-recall (paper, section 5.2 and appendix B.2).

During a task, the free part of the buffer has real samples, kept by reservoir sampling. Every minibatch drives outer
steps on the new and the stored samples. At its end, the task's memory takes 1/T of the buffer and the samples are
dropped. To predict for a task, the learner trains a fresh network on the images that the task's memory recalls.

Tasks that share classes have separate memories, so their classifiers do not depend on each other. Every task has its
own random numbers, so unless a method starts from finished memories (`stream.reuse`), a task's memory depends only on
its samples, its number and the seed: tasks may be learned in any order or process, with the same bits (`skip`).
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass
from typing import final

import torch

from recall_server.core.memory import AbstractMemory
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.errors import InvalidDataset
from trainer.data.enlargement import Enlargement
from trainer.data.splits import Split
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.problem import Problem
from trainer.streams.buffer.buffer import Buffer
from trainer.streams.buffer.reservoir import AbstractSamples, Reservoir
from trainer.streams.buffer.samples import CodedSamples
from trainer.streams.learners import learner
from trainer.streams.learners.construction import Construction
from trainer.streams.learners.learner import AbstractStreamLearner, Allowance, State
from trainer.streams.methods import StreamMethod
from trainer.streams.sources.task import TaskHeader

SEEDS = 2**40  # offset of the learner's seeds, to keep them apart from those of the streams


@dataclass
class Seen:
    """A record of a task: how many samples of each class were seen, and a digest of all samples."""

    header: TaskHeader
    counts: list[int]
    outer_steps: int = 0
    digest: str = ""

    def add(self, batch: Split) -> None:
        for label in batch.labels.tolist():
            self.counts[label] += 1
        content = batch.images.numpy().tobytes() + batch.labels.numpy().astype("<i8").tobytes()
        self.digest = hashlib.sha256(self.digest.encode() + content).hexdigest()


@final
class CompressThenRecall(AbstractStreamLearner):
    """Learns tasks into memories in a buffer.

    Tasks may differ in their classes, and the number of samples of a task need not be known in advance.
    """

    name = "recall"
    settled = True

    def __init__(self, method: StreamMethod, preprocessing: AbstractPreprocessing, allowance: Allowance) -> None:
        self.method, self.preprocessing = method, preprocessing
        self.seed, self.device = allowance.seed, allowance.device
        self.buffer = Buffer(allowance.capacity, allowance.tasks)
        self.seen: list[Seen] = []
        self._generator = torch.Generator()
        self._construction: Construction | None = None

    def begin(self, header: TaskHeader) -> None:
        if self._construction is not None:
            raise ValueError(f"the task {self.seen[-1].header.name} has not ended; finish it first")
        budget = self.check(header)
        self._generator.manual_seed(SEEDS + self.seed * 1_000_003 + len(self.seen))
        self._open(header, budget)
        self.seen.append(Seen(header, [0] * len(header.classes)))

    def skip(self, header: TaskHeader) -> None:
        """Leave the next task to a learner in another run; its share of the buffer gets an empty memory.

        Raises ValueError if later tasks would depend on it, and the errors of `begin`.
        """
        if self.method.stream.reuse:
            raise ValueError("a method that starts from finished memories (`stream.reuse`) needs all tasks, in order")
        budget, shape = self.check(header), self.method.shape(header.dataset())
        empty = self.method.memory.noise(shape, budget.bases, budget.rows, "xavier", torch.Generator())
        self.buffer.close(empty.replace({name: torch.zeros_like(value) for name, value in empty.tensors().items()}))
        self.seen.append(Seen(header, [0] * len(header.classes)))

    def check(self, header: TaskHeader) -> MemoryBudget:
        """How large the memory of such a task would be. Raises the errors of `begin`."""
        if not self.preprocessing.fits(header.image_shape):
            raise InvalidDataset(f"this stream's preprocessing does not accept the images of {header.name}")
        if self.seen and header.image_shape != self.seen[0].header.image_shape:
            first = self.seen[0].header
            raise InvalidDataset(
                f"the images of {header.name} are {_size(header)}, those of {first.name} {_size(first)}; all tasks "
                "need the same size"
            )
        return self.buffer.budget(header, self.method)

    def _open(self, header: TaskHeader, budget: MemoryBudget) -> None:
        problem = Problem(header.dataset(), self.preprocessing, self._generator, self.device)
        self._construction = Construction(self.method, problem, budget, finished=self.buffer.memories)
        self.buffer.samples = self._new_samples(header)

    def _new_samples(self, header: TaskHeader) -> AbstractSamples:
        """An empty store for the samples of a new task, as large as the finished memories permit."""
        free, stream = self.buffer.free, self.method.stream
        if stream.stored == "raw":
            return Reservoir(max(0, free) // header.image_numbers, header.image_shape, self._generator)
        enlargement = Enlargement.of(self.method.memory.resolution, *header.image_shape[1:])
        sizes = stream.directions, stream.least_samples
        return CodedSamples(free, header.image_shape, self._generator, enlargement, *sizes)

    def observe(self, batch: Split) -> None:
        construction, samples = self._current()
        images = self.preprocessing.to_model(batch.pixels())
        construction.observe(images, batch.labels, samples)
        samples.offer(images, batch.labels)
        self.seen[-1].add(batch)

    def finish(self) -> None:
        construction, samples = self._current()
        seen = self.seen[-1]
        missing = [name for name, count in zip(seen.header.classes, seen.counts, strict=True) if not count]
        if missing:
            what = "without a sample" if len(missing) == len(seen.counts) else f"without a sample of {missing[0]}"
            raise InvalidDataset(f"the task {seen.header.name} ended {what}")
        self.buffer.close(construction.finish(samples))
        seen.outer_steps = construction.steps
        self._construction = None

    def _current(self) -> tuple[Construction, AbstractSamples]:
        if self._construction is None or self.buffer.samples is None:
            raise ValueError("there is no current task; begin one first")
        return self._construction, self.buffer.samples

    def memory(self, number: int) -> AbstractMemory:
        """The memory of a finished task."""
        if not 0 <= number < len(self.buffer.memories):
            raise ValueError(f"there is no memory of task {number}; {len(self.buffer.memories)} tasks have ended")
        return self.buffer.memories[number]

    def predictor(self, number: int) -> learner.Predict:
        memory, header = self.memory(number), self.seen[number].header
        recalled = memory.items(torch.eye(memory.query_size))
        return learner.fresh_predictor(
            recalled, header, self.preprocessing, self.method.retraining, seed=self.seed + number, device=self.device
        )

    def numbers(self) -> int:
        return self.buffer.numbers()

    def state(self) -> State:
        values = {
            "seen": [astuple(seen) for seen in self.seen],
            "finished": [memory.settings() for memory in self.buffer.memories],
            "construction": None,
        }
        tensors = {"generator": self._generator.get_state()} | learner.prefixed("memories", self.buffer.tensors())
        if self._construction is not None and self.buffer.samples is not None:
            current = self._construction.state()
            values["construction"] = dict(current.values)
            tensors |= learner.prefixed("construction", current.tensors)
            tensors |= learner.prefixed("samples", self.buffer.samples.tensors())
        return State(values, tensors)

    def restore(self, state: State) -> None:
        values = state.values
        self.seen = [Seen(TaskHeader.of(*header), list(counts), *rest) for header, counts, *rest in values["seen"]]
        memories = learner.with_prefix("memories", state.tensors)
        self.buffer.restore(self.method.memory.memory, memories, values["finished"])
        if values["construction"] is not None:
            header = self.seen[-1].header
            self._open(header, self.buffer.budget(header, self.method))
            construction, samples = self._current()
            construction.restore(State(values["construction"], learner.with_prefix("construction", state.tensors)))
            samples.restore(learner.with_prefix("samples", state.tensors))
        self._generator.set_state(state.tensors["generator"])


def _size(header: TaskHeader) -> str:
    channels, height, width = header.image_shape
    return f"{height}x{width} in {'grey' if channels == 1 else 'colour'}"
