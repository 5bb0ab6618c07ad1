"""The construction of the current task's memory: its start, and the outer steps that every minibatch drives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from recall_server.core.memory import AbstractMemory
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.problem import Problem
from trainer.objectives.components import Components
from trainer.objectives.real_data import AbstractRealData, DrawQueries, RealBatch
from trainer.run.outer_training import OuterTraining
from trainer.starts.few_samples import Samples
from trainer.streams.buffer.reservoir import AbstractSamples
from trainer.streams.learners.learner import State
from trainer.streams.methods import StreamMethod

TRIALS = 3  # fresh networks per candidate when starts are compared
RECENT = 3  # a task may start from one of this many last memories


@final
@dataclass(frozen=True)
class ArrivedData(AbstractRealData):
    """The samples of a minibatch, which are in every batch, together with random `stored` samples.

    `one_hot` [k, k] are the targets of all classes; batches are on its device.
    """

    items: Tensor
    labels: Tensor
    one_hot: Tensor
    stored: AbstractSamples | None = None

    @property
    def classes(self) -> int:
        return len(self.one_hot)

    def draw_classes(self, count: int, generator: torch.Generator) -> Sequence[int]:
        if count:
            raise ValueError("the outer steps of a stream see all classes of a task; use objective.classes_per_step=0")
        return range(self.classes)

    def batch(self, draw: DrawQueries, classes: Sequence[int], count: int, generator: torch.Generator) -> RealBatch:
        items, labels = self.samples(count * len(classes))
        return RealBatch(self.one_hot, items.to(self.one_hot.device), self.one_hot[labels])

    def samples(self, count: int) -> Samples:
        """At most `count` stored samples, and the minibatch."""
        if self.stored is None:
            return Samples(self.items, self.labels)
        items, labels = self.stored.draw(count)
        return Samples(torch.cat([items, self.items]), torch.cat([labels, self.labels]))


class Construction:
    """The construction of one task's memory. `finished` are memories that it may start from.

    `owed` counts the outer steps of earlier minibatches that are postponed until the start. Random choices come from
    the generator of the problem.
    """

    def __init__(
        self, method: StreamMethod, problem: Problem, budget: MemoryBudget, *, finished: Sequence[AbstractMemory]
    ) -> None:
        self.method, self.problem, self.budget = method, problem, budget
        self.seen, self.owed = 0, 0
        self.training: OuterTraining | None = None
        self._shape = method.shape(problem.dataset)
        self._objective = method.objective.build(problem)
        self._finished = [memory for memory in finished[-RECENT:] if memory.query_size == self._shape.query_size]

    @property
    def steps(self) -> int:
        """The number of outer steps that were taken."""
        return 0 if self.training is None else self.training.steps

    def observe(self, images: Tensor, labels: Tensor, samples: AbstractSamples) -> None:
        """Take outer steps on new samples [n, C, H, W] and samples of the buffer, all in model space."""
        self.seen += len(labels)
        self.owed += self.method.outer.steps
        if self.seen >= self.method.stream.start_after:
            self._catch_up(self._arrived(images, labels, samples))

    def finish(self, samples: AbstractSamples) -> AbstractMemory:
        """Take the postponed outer steps, and return the memory, on the CPU."""
        training = self._catch_up(self._arrived(*samples.draw(0), samples))
        return training.components.memory_of({name: value.cpu() for name, value in training.kept().items()})

    def _arrived(self, images: Tensor, labels: Tensor, stored: AbstractSamples | None) -> ArrivedData:
        return ArrivedData(images, labels, torch.eye(self._shape.classes, device=self.problem.device), stored)

    def _catch_up(self, data: ArrivedData) -> OuterTraining:
        if self.training is None:
            assert data.stored is not None, "the start is computed from all samples"
            self.training = self._training(self._start(data.samples(len(data.stored))))
        while self.owed:
            try:
                self.training.step(data)
            except FloatingPointError as error:
                raise FloatingPointError(f"the task {self.problem.dataset.name}: {error}") from error
            self.owed -= 1
        return self.training

    def _start(self, samples: Samples) -> AbstractMemory:
        """The method's start, or a finished memory with a lower loss on these samples."""
        problem = replace(self.problem, samples=samples)
        start = self.method.start.memory(self.method.memory, self._shape, self.budget, problem)
        if not self.method.stream.reuse or not self._finished:
            return start
        data = self._arrived(*samples, None)
        return min([start, *self._finished], key=lambda memory: self._loss(self._components(memory), data))

    @torch.no_grad()
    def _loss(self, components: Components, data: ArrivedData) -> float:
        sampler = components.sampler(data)
        losses = [self._objective.loss(sampler, {}, self.problem.generator) for _ in range(TRIALS)]
        return float(torch.stack(losses).mean())

    def _components(self, memory: AbstractMemory) -> Components:
        # Contiguous, like a restored state.
        contiguous = memory.replace({name: value.contiguous() for name, value in memory.tensors().items()})
        return self.method.components(contiguous, self.problem, self._objective)

    def _training(self, start: AbstractMemory) -> OuterTraining:
        return OuterTraining(self._components(start), self.method.outer, self.problem.generator)

    def state(self) -> State:
        """The state, without the generator, which belongs to the owner."""
        tensors = {} if self.training is None else self.training.tensors()
        return State({"seen": self.seen, "owed": self.owed}, tensors)

    def restore(self, state: State) -> None:
        """Restore the state from `state()`. Raises KeyError, TypeError or RuntimeError for anything else."""
        self.seen, self.owed = state.values["seen"], state.values["owed"]
        if state.tensors:
            budget, unused = self.budget, torch.Generator()
            like = self.method.memory.noise(self._shape, budget.bases, budget.rows, "xavier", unused)
            self.training = self._training(like)
            self.training.restore(state.tensors)
