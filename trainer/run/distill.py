"""The one outer loop: step, report, validate, publish, checkpoint, resume.

It knows neither memories nor objectives: it changes the tensors of `Components` by the gradient of a loss. A run is a
pure function of its description: killed at any moment and resumed, it ends in the same bytes on the CPU, unless a limit
on the clock shaped its learning rate.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recall_server.core.io.tensor_file import with_prefix
from recall_server.core.training.retraining import cosine
from recall_server.errors import InvalidCheckpoint, TrainingFailed
from trainer.methods.method import Method
from trainer.objectives.components import Components
from trainer.objectives.real_data import RealData
from trainer.objectives.sampler import Sampler
from trainer.run.checkpoint import Checkpoint
from trainer.run.distributed import ALONE, AbstractProcesses
from trainer.run.progress import RunLimits, RunState, Validation

FINAL_RATE = 0.05  # what the cosine leaves of the outer rate


class Interrupted(Exception):
    """Ctrl-C: the run stopped between two outer steps, and its checkpoint is written."""


Publish = Callable[[Mapping[str, Tensor], RunState], None]


def _keep_to_yourself(tensors: Mapping[str, Tensor], progress: RunState) -> None:
    """Publish nothing."""


class Distillation:
    """One run over components; `run` describes it in full, for checkpoints."""

    def __init__(
        self,
        components: Components,
        method: Method,
        *,
        run: Mapping[str, Any],
        limits: RunLimits,
        generator: torch.Generator,
        checkpoint: Path | None = None,
        ranks: AbstractProcesses = ALONE,
    ) -> None:
        self.components, self.outer, self.storage = components, method.outer, method.memory.storage
        self.run, self.limits, self.generator = run, limits, generator
        self.ranks, self.checkpoint = ranks, checkpoint if ranks.first else None
        self.progress = RunState()
        self.best: dict[str, Tensor] = {}
        self.state = components.objective.begin(generator)
        self.optimiser = self.outer.build(components.tensors())

    def resume(self, path: Path) -> None:
        """Go on where the checkpoint ended; InvalidCheckpoint when it is of another run."""
        checkpoint = Checkpoint.load(path)
        checkpoint.require(self.run)
        try:
            self._restore(checkpoint)
        except (KeyError, TypeError, RuntimeError) as error:
            raise InvalidCheckpoint(f"{path.name} is not a checkpoint that can be resumed: {error}") from error

    def _restore(self, checkpoint: Checkpoint) -> None:
        tensors = checkpoint.tensors
        with torch.no_grad():
            for name, leaf in self.components.tensors().items():
                leaf.copy_(tensors[f"learned.{name}"])
        for name, leaf in self.components.tensors().items():
            state = with_prefix(f"optimiser.{name}/", tensors)
            if state:
                self.optimiser.state[leaf] = {
                    key: value if key == "step" else value.to(leaf.device) for key, value in state.items()
                }
        self.best = with_prefix("best.", tensors)
        kept = with_prefix("state.", tensors)
        self.state = {name: value.to(self.components.device) for name, value in kept.items()}
        self.generator.set_state(tensors["generator"])
        self.progress = RunState.from_json(checkpoint.progress)

    def save(self) -> None:
        """Write the checkpoint, where the run has one."""
        if self.checkpoint is None:
            return
        tensors = {f"learned.{name}": leaf for name, leaf in self.components.tensors().items()}
        for name, leaf in self.components.tensors().items():
            for key, value in self.optimiser.state.get(leaf, {}).items():
                tensors[f"optimiser.{name}/{key}"] = value
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"state.{name}": value for name, value in self.state.items()}
        tensors["generator"] = self.generator.get_state()
        Checkpoint(self.run, self.progress.to_json(), tensors).save(self.checkpoint)

    def distill(
        self,
        data: RealData,
        *,
        validate: Callable[[], Sequence[float]] | None = None,
        report: Callable[[RunState], None] = lambda progress: None,
        publish: Publish = _keep_to_yourself,
        publish_start: bool = True,
    ) -> dict[str, Tensor]:
        """Run to the end and return the learned tensors that were best on validation (the last without validation).

        `validate` gives the accuracies of several fresh networks. `publish` is called with the start itself (unless
        it is published already), with every state whose accuracy exceeds the published one's by more than the noise
        of their difference (`Progress.noise`), and with the best one at the end. Raises Interrupted after Ctrl-C and
        FloatingPointError on a loss that is not finite; both leave a checkpoint of the last good state.
        """
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
        """The best so far into the bundle, where this run has written it or has something better, and a checkpoint."""
        if self.progress.version > 0 or self.progress.best > self.progress.published:
            self._publish(publish)
        self.save()

    def _publish(self, publish: Publish) -> None:
        self.progress.version += 1
        self.progress.published = self.progress.best
        publish(self._best(), self.progress)
        self.save()  # whoever resumes must know of this version, or would replace it by one that is no better

    def _best(self) -> dict[str, Tensor]:
        return self.best or self._learned()

    def _fraction(self) -> float:
        """How much of the run is done, by steps or by the clock, whichever is further."""
        by_steps = by_clock = 0.0
        if self.limits.outer_steps is not None:
            by_steps = self.progress.step / self.limits.outer_steps if self.limits.outer_steps else 1.0
        if self.limits.minutes is not None:
            by_clock = self.progress.seconds / (60 * self.limits.minutes)
        return max(by_steps, by_clock)

    def _is_due(self) -> bool:
        """Whether it is time for a validation, by steps or by the clock."""
        history, seconds = self.progress.history, self.limits.validate_seconds
        long_ago = seconds is not None and bool(history) and self.progress.seconds - history[-1].seconds >= seconds
        return long_ago or self.progress.step % self.limits.validate_every == 0

    def _outer_step(self, data: RealData) -> None:
        decay = 1.0
        if self.outer.decay == "cosine":
            decay = FINAL_RATE + (1 - FINAL_RATE) * cosine(min(1.0, self._fraction()))
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * decay
        last = self._fraction() >= 1 - self.outer.storage_share
        sampler = self.components.sampler(data, self.storage if last else "float32")
        self.optimiser.zero_grad()
        loss = self._gradient(sampler)
        norm = torch.nn.utils.clip_grad_norm_(self.components.tensors().values(), self.outer.clip or math.inf)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            self.save()  # what was learned so far; nothing of this step has touched it
            raise FloatingPointError(
                f"the outer loss is {loss.item():g} and its gradient has norm {norm.item():g} at outer step "
                f"{self.progress.step}; the last good state is kept. Start anew with a lower `outer.rate`"
            )
        self.optimiser.step()
        self.state = self.components.objective.advance(self.components.sampler(data), self.state, self.generator)
        self.progress.step += 1
        self.progress.loss, self.progress.gradient_norm = loss.item(), norm.item()
        self.progress.outer_rate = self.optimiser.param_groups[0]["lr"]

    def _gradient(self, sampler: Sampler) -> Tensor:
        """The mean loss of this step's draws, of all ranks; its gradient is left in the leaves."""
        leaves = list(self.components.tensors().values())
        total = torch.zeros((), device=leaves[0].device)
        for generator in self._generators():
            loss = self.components.objective.loss(sampler, self.state, generator) / self.outer.draws
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.ranks.all_reduce([total, *(leaf.grad for leaf in leaves if leaf.grad is not None)])
        return total

    def _generators(self) -> list[torch.Generator]:
        """One for each draw of this rank, the same whichever rank that is; for a single draw the run's own."""
        if self.outer.draws == 1:
            return [self.generator]
        seeds = torch.randint(2**62, (self.outer.draws,), generator=self.generator).tolist()
        return [torch.Generator().manual_seed(seeds[number]) for number in self.ranks.share(self.outer.draws)]

    def _validate(self, validate: Callable[[], Sequence[float]] | None, publish: Publish) -> None:
        if validate is None:
            return
        try:
            values = tuple(validate())
        except TrainingFailed:  # a fresh network that diverges has learned nothing; the run itself goes on
            values = (0.0,)
        point = Validation(self.progress.step, self.progress.seconds, values)
        first = not self.progress.history
        self.progress.history.append(point)
        if point.accuracy >= self.progress.best:
            self.progress.best = point.accuracy
            self.best = self._learned()
        if first:  # what is published so far, by this run or as the bundle that it goes on from, is the start
            self.progress.published = point.accuracy
        elif point.accuracy > self.progress.published + self.progress.noise:
            self._publish(publish)

    def _learned(self) -> dict[str, Tensor]:
        return {name: leaf.detach().clone() for name, leaf in self.components.tensors().items()}


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within the block the first Ctrl-C is remembered instead of raised, so that it falls between two steps."""
    received = False

    def remember(number: int, frame: object) -> None:
        nonlocal received
        received = True
        signal.signal(signal.SIGINT, previous)  # a second Ctrl-C stops at once

    try:
        previous = signal.signal(signal.SIGINT, remember)
    except ValueError:  # not the main thread: Ctrl-C is not ours to take
        yield lambda: False
        return
    try:
        yield lambda: received
    finally:
        signal.signal(signal.SIGINT, previous)
