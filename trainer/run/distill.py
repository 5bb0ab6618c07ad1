"""The outer loop over a data set: step, report, validate, publish, checkpoint, resume.

On a CPU, a run that is killed and resumed ends in the same bytes as one that is not, unless a limit of minutes shapes
its learning rate.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from recall_server.core.io.tensor_file import with_prefix
from recall_server.errors import InvalidCheckpoint, TrainingFailed
from trainer.methods.method import Method
from trainer.objectives.components import Components
from trainer.objectives.real_data import RealData
from trainer.run.checkpoint import Checkpoint
from trainer.run.outer_training import OuterTraining
from trainer.run.parallel.distributed import ALONE, Processes
from trainer.run.progress import RunLimits, RunState, Validation
from trainer.run.setup.request import DistillRequest


class Interrupted(Exception):
    """The run stopped between two outer steps after Ctrl-C, and its checkpoint is written."""


Publish = Callable[[Mapping[str, Tensor], RunState], None]


class Distillation:
    """A run that trains components. `run` is its full description, for checkpoints."""

    def __init__(
        self,
        components: Components,
        method: Method,
        *,
        run: Mapping[str, Any],
        limits: RunLimits,
        generator: torch.Generator,
        checkpoint: Path | None = None,
        ranks: Processes = ALONE,
    ) -> None:
        self.training = OuterTraining(components, method.outer, generator, ranks)
        self.outer, self.storage = method.outer, method.memory.storage
        self.run, self.limits, self.generator = run, limits, generator
        self.ranks, self.checkpoint = ranks, checkpoint if ranks.first else None
        self.progress = RunState()
        self.best: dict[str, Tensor] = {}
        self._last = 0.0  # seconds that the last validation took

    @classmethod
    def of(
        cls, request: DistillRequest, components: Components, generator: torch.Generator, ranks: Processes = ALONE
    ) -> Self:
        """The run of a request. It writes the request's checkpoint."""
        return cls(
            components,
            request.method,
            run=request.describe(),
            limits=request.limits,
            generator=generator,
            checkpoint=request.checkpoint,
            ranks=ranks,
        )

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint. Raises InvalidCheckpoint if it is of another run."""
        checkpoint = Checkpoint.load(path)
        checkpoint.require(self.run)
        try:
            self._restore(checkpoint)
        except (KeyError, TypeError, RuntimeError) as error:
            raise InvalidCheckpoint(f"{path.name} is not a checkpoint that can be resumed: {error}") from error

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.training.restore(checkpoint.tensors)
        self.best = with_prefix("best.", checkpoint.tensors)
        self.generator.set_state(checkpoint.tensors["generator"])
        self.progress = RunState.from_json(checkpoint.progress)

    def save(self) -> None:
        """Write the checkpoint, if the run has one."""
        if self.checkpoint is None:
            return
        tensors = self.training.tensors() | {f"best.{name}": value for name, value in self.best.items()}
        tensors["generator"] = self.generator.get_state()
        Checkpoint(self.run, self.progress.to_json(), tensors).save(self.checkpoint)

    def distill(
        self,
        data: RealData,
        *,
        validate: Callable[[], Sequence[float]] | None = None,
        report: Callable[[RunState], None] = lambda progress: None,
        publish: Publish = lambda tensors, progress: None,
        publish_start: bool = True,
    ) -> dict[str, Tensor]:
        """Run to the end, and return the tensors that were best on validation (without validation, the last).

        `validate` returns the accuracies of several fresh networks. `publish` is called with the start (unless it is
        published already), with every state that is better than the published one by more than the noise
        (`RunState.noise`), and with the best state at the end. Raises Interrupted after Ctrl-C, and FloatingPointError
        for a loss that is not finite; both leave a checkpoint of the last good state.
        """
        if self.limits.begun is not None:
            self.progress.seconds += self.limits.clock() - self.limits.begun
        started = self.limits.clock() - self.progress.seconds
        saved = self.limits.clock()
        with deferred_interrupt() as interrupted:
            self.save()
            if publish_start and self.progress.version == 0:
                self._publish(publish)
            if not self.progress.history:
                self._validate(validate, publish)
            while self._fraction() < 1:
                self._outer_step(data)
                (self.progress.seconds,) = self.ranks.broadcast([self.limits.clock() - started])
                if self._fraction() >= 1 or self._is_due():
                    self._validate(validate, publish)
                report(self.progress)
                if any(self.ranks.broadcast([interrupted()])):
                    self._finish(publish)
                    raise Interrupted
                if self.limits.clock() - saved > self.limits.checkpoint_seconds:
                    self.save()
                    saved = self.limits.clock()
            self.progress.seconds = self.limits.clock() - started
            self._finish(publish)
        return self._best()

    def _finish(self, publish: Publish) -> None:
        """Write a checkpoint, and publish the best state if this run owns the bundle or has a better one."""
        if self.progress.version > 0 or self.progress.best > self.progress.published:
            self._publish(publish)
        self.save()

    def _publish(self, publish: Publish) -> None:
        self.progress.version += 1
        self.progress.published = self.progress.best
        publish(self._best(), self.progress)
        self.save()  # a resumed run must know this version, or would replace it by one that is not better

    def _best(self) -> dict[str, Tensor]:
        return self.best or self.training.kept()

    def _fraction(self) -> float:
        """The completed fraction of the run, by steps or by the clock, whichever is larger.

        The clock leaves time for the validation at the end, as long as the last one took.
        """
        by_steps = by_clock = 0.0
        if self.limits.outer_steps is not None:
            by_steps = self.progress.step / self.limits.outer_steps if self.limits.outer_steps else 1.0
        if self.limits.minutes is not None:
            seconds = 60 * self.limits.minutes
            by_clock = self.progress.seconds / (seconds - min(self._last, seconds / 2))
        return max(by_steps, by_clock)

    def _is_due(self) -> bool:
        """Whether a validation is due, by steps or by the clock."""
        history, seconds = self.progress.history, self.limits.validate_seconds
        long_ago = seconds is not None and bool(history) and self.progress.seconds - history[-1].seconds >= seconds
        return long_ago or self.progress.step % self.limits.validate_every == 0

    def _outer_step(self, data: RealData) -> None:
        done = self._fraction()
        last = done >= 1 - self.outer.storage_share
        try:
            step = self.training.step(data, done=done, storage=self.storage if last else "float32")
        except FloatingPointError:
            self.save()
            raise
        self.progress.step = self.training.steps
        self.progress.loss, self.progress.gradient_norm, self.progress.outer_rate = step

    def _validate(self, validate: Callable[[], Sequence[float]] | None, publish: Publish) -> None:
        if validate is None:
            return
        before = self.limits.clock()
        try:
            with self.training.holding_what_is_kept():
                values = tuple(validate())
        except TrainingFailed:  # a fresh network diverged and learned nothing; the run continues
            values = (0.0,)
        (self._last,) = self.ranks.broadcast([self.limits.clock() - before])
        point = Validation(self.progress.step, self.progress.seconds, values)
        first = not self.progress.history
        self.progress.history.append(point)
        if point.accuracy >= self.progress.best:
            self.progress.best = point.accuracy
            self.best = self.training.kept()
        if first:  # the published bundle, of this run or continued by it, is the start
            self.progress.published = point.accuracy
        elif point.accuracy > self.progress.published + self.progress.noise:
            self._publish(publish)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within the block, remember the first Ctrl-C instead of raising it, so that a step is not cut in two."""
    received = False

    def remember(number: int, frame: object) -> None:
        nonlocal received
        received = True
        signal.signal(signal.SIGINT, previous)  # a second Ctrl-C stops at once

    try:
        previous = signal.signal(signal.SIGINT, remember)
    except ValueError:  # signals can be handled in the main thread only
        yield lambda: False
        return
    try:
        yield lambda: received
    finally:
        signal.signal(signal.SIGINT, previous)
