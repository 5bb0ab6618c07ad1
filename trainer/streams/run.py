"""One pass over a stream: every learner sees every minibatch once, and every finished task is published and tested.

The state of all learners can be saved between any two minibatches. A killed run continues from its last checkpoint and,
on the CPU, ends with the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from recall_server.core.training.allocator import release_freed_memory
from recall_server.errors import InvalidCheckpoint
from trainer.run.checkpoint import Checkpoint
from trainer.run.distill import Interrupted
from trainer.streams.learners.learner import AbstractStreamLearner, State, prefixed, with_prefix
from trainer.streams.scores import Scores
from trainer.streams.sources.task import CHUNK, MINIBATCH, AbstractStream, Pictures, StreamTask

Finished = Callable[[int], None]  # called with the number of every finished task


@dataclass
class Position:
    """The position in the stream: a task and its next minibatch; the task has begun unless that is its first."""

    task: int = 0
    minibatch: int = 0


@dataclass
class Seconds:
    """Seconds spent on making pictures, on each learner, on testing, and on checkpoints."""

    spent: dict[str, float] = field(default_factory=dict)

    def measure(self, name: str, started: float) -> None:
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - started


class StreamRun:
    """Runs learners over a stream.

    After every `judge_every` tasks and after the last, the learners are tested on all tasks so far, else on the new
    one. `tasks` is the range of tasks of this run, if the others are left to other runs.
    """

    def __init__(
        self,
        stream: AbstractStream,
        learners: Sequence[AbstractStreamLearner],
        *,
        description: Mapping[str, Any],
        judge_every: int = 1,
        tasks: range | None = None,
        checkpoint: Path | None = None,
        checkpoint_seconds: float = 60.0,
        finished: Finished = lambda number: None,
        report: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.stream, self.learners, self.description = stream, learners, description
        self._stop: int | None
        self._first, self._stop = (0, None) if tasks is None else (tasks.start, tasks.stop)
        self.scores, self.position, self.seconds = Scores(), Position(self._first), Seconds()
        self._judge_every, self._checkpoint, self._save_after = judge_every, checkpoint, checkpoint_seconds
        self._finished, self._report = finished, report
        self._saved = time.monotonic()

    def run(self, *, stopped: Callable[[], bool] = lambda: False) -> Scores:
        """Run to the end of the stream, and return the scores.

        Raises Interrupted, between two minibatches, once `stopped` returns True. An error leaves the last checkpoint
        and the bundles of all finished tasks.
        """
        while (task := self._next(stopped)) is not None:
            if stopped():
                self.save()
                raise Interrupted
            self._learn(task, stopped)
            self._end(task)
            self.save()
            release_freed_memory()  # or fragmentation would make the process grow with every task
            self._tell(self.position.task - 1)
        if self.stream.arriving and self.position.task < self.stream.tasks:
            raise Interrupted  # while waiting for the next task, after the state was saved
        return self.scores

    def _next(self, stopped: Callable[[], bool]) -> StreamTask | None:
        if self.position.task == self._stop:
            return None
        return self.stream.await_task(self.position.task, stopped=stopped)

    def _learn(self, task: StreamTask, stopped: Callable[[], bool]) -> None:
        if self.position.minibatch == 0:
            for learner in self.learners:
                learner.begin(task.header)
        started = time.perf_counter()
        for batch in task.train.chunks(MINIBATCH, start=self.position.minibatch * MINIBATCH):
            self.seconds.measure("pictures", started)
            for learner in self.learners:
                started = time.perf_counter()
                learner.observe(batch)
                self.seconds.measure(learner.name, started)
            self.position.minibatch += 1
            if stopped():
                self.save()
                raise Interrupted
            if time.monotonic() - self._saved > self._save_after:
                self.save()
            started = time.perf_counter()

    def _end(self, task: StreamTask) -> None:
        for learner in self.learners:
            started = time.perf_counter()
            learner.finish()
            self.seconds.measure(learner.name, started)
        number = self.position.task
        self._finished(number)
        started = time.perf_counter()
        self._judge(number, task)
        self.seconds.measure("judging", started)
        self.position = Position(number + 1)

    def _judge(self, number: int, task: StreamTask) -> None:
        self._judge_on(number, number, task.test, self.learners)
        unsettled = [learner for learner in self.learners if not learner.settled]
        whole = (number + 1) % self._judge_every == 0 or number + 1 == self.stream.tasks
        for earlier in range(self._first, number):
            for learner in self.learners:
                if learner.settled:  # later tasks do not change its accuracy
                    value = self.scores.rows[learner.name][earlier][earlier]
                    self.scores.add(learner.name, after=number, task=earlier, accuracy=value)
            if whole and unsettled and (old := self.stream.task(earlier)) is not None:
                self._judge_on(number, earlier, old.test, unsettled)

    def _tell(self, number: int) -> None:
        means = ", ".join(
            f"{learner.name} {self.scores.rows[learner.name][number][number]:.3f}" for learner in self.learners
        )
        self._report(f"task {number + 1} of {self.stream.tasks}: {means}")

    def _judge_on(self, after: int, number: int, pictures: Pictures, learners: Sequence[AbstractStreamLearner]) -> None:
        """Test all learners together, so that the pictures are made only once."""
        predictors = {learner.name: learner.predictor(number) for learner in learners}
        right = dict.fromkeys(predictors, 0)
        for part in pictures.chunks(CHUNK):
            pixels = part.pixels()
            for name, predict in predictors.items():
                right[name] += int((predict(pixels) == part.labels).sum())
        for name, count in right.items():
            self.scores.add(name, after=after, task=number, accuracy=count / len(pictures))

    def save(self) -> None:
        """Write the checkpoint, if the run has one."""
        self._saved = time.monotonic()
        if self._checkpoint is None:
            return
        started = time.perf_counter()
        tensors: dict[str, Tensor] = {}
        values: dict[str, Any] = {}
        for index, learner in enumerate(self.learners):
            state = learner.state()
            values[learner.name] = state.values
            tensors |= prefixed(str(index), state.tensors)
        progress = {
            "task": self.position.task,
            "minibatch": self.position.minibatch,
            "scores": self.scores.to_json(),
            "seconds": self.seconds.spent,
            "learners": values,
        }
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        Checkpoint(self.description, progress, tensors).save(self._checkpoint)
        self.seconds.measure("checkpoints", started)

    def resume(self) -> None:
        """Continue from the checkpoint. Raises InvalidCheckpoint if it belongs to another run."""
        assert self._checkpoint is not None, "only a run with a checkpoint can be resumed"
        checkpoint = Checkpoint.load(self._checkpoint)
        checkpoint.require(self.description)
        progress = checkpoint.progress
        try:
            for index, learner in enumerate(self.learners):
                tensors = with_prefix(str(index), checkpoint.tensors)
                learner.restore(State(progress["learners"][learner.name], tensors))
            self.scores = Scores.from_json(progress["scores"])
            self.seconds = Seconds(dict(progress["seconds"]))
            self.position = Position(progress["task"], progress["minibatch"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InvalidCheckpoint(f"{self._checkpoint.name} cannot be resumed: {error}") from error
