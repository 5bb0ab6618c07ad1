"""The construction of the current task's memory: its start, and the outer steps that every minibatch drives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases
from recall_server.core.networks import MLP, build_network
from trainer.objectives.inner.inner_training import Momentum
from trainer.objectives.inner.select_step import inner_step
from trainer.objectives.unrolled import Unrolled
from trainer.streams.buffer.samples import AbstractSamples
from trainer.streams.learners.learner import State, prefixed, with_prefix
from trainer.streams.learners.objective import AbstractStreamObjective, RecalledUnrolled
from trainer.streams.learners.recipe import StreamMethod
from trainer.streams.learners.starts import noise_memory, principal_memory
from trainer.streams.learners.subspace import SubspaceUnrolled
from trainer.streams.sources.task import TaskHeader

TRIALS = 3  # fresh networks per candidate when starts are compared
RECENT = 3  # a task may start from one of this many last memories


class Construction:
    """The construction of one task's memory. `finished` are memories that it may start from.

    The memory is on the CPU; `device` is where inner networks are trained, if `make_objective` supports it. `owed`
    counts the outer steps of earlier minibatches that are postponed until the start.
    """

    def __init__(
        self,
        recipe: StreamMethod,
        header: TaskHeader,
        rows: int,
        *,
        finished: Sequence[AddressedBases],
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.recipe, self.header, self.rows = recipe, header, rows
        self.seen, self.steps, self.owed = 0, 0, 0
        self._generator = generator
        self._objective = make_objective(recipe, header, device)
        self._finished = [memory for memory in finished[-RECENT:] if memory.query_size == len(header.classes)]
        self._targets = torch.eye(len(header.classes))
        self._leaves: dict[str, Tensor] = {}
        self._average: dict[str, Tensor] = {}
        self._optimiser: torch.optim.Optimizer | None = None
        self._like = noise_memory(recipe, header, rows, torch.Generator())

    def observe(self, images: Tensor, labels: Tensor, samples: AbstractSamples) -> None:
        """Take outer steps on new samples [n, C, H, W] and samples of the buffer, all in model space."""
        self.seen += len(labels)
        self.owed += self.recipe.replays
        if self.seen >= self.recipe.start_after:
            self._catch_up(images, labels, samples)

    def finish(self, samples: AbstractSamples) -> AddressedBases:
        """Take the outer steps that are owed, and return the memory."""
        nothing = samples.draw(0)
        self._catch_up(*nothing, samples)
        tensors = self._average or self._leaves
        return self._like.replace({name: value.detach().clone() for name, value in tensors.items()})

    def _catch_up(self, images: Tensor, labels: Tensor, samples: AbstractSamples) -> None:
        if not self._leaves:
            self._begin(self._start(*_together(images, labels, samples, len(samples))))
        while self.owed:
            drawn, their_labels = _together(images, labels, samples, self.recipe.real_batch)
            self._outer_step(drawn, self._targets[their_labels])
            self.owed -= 1

    def _start(self, images: Tensor, labels: Tensor) -> AddressedBases:
        """The recipe's start, or a finished memory with a lower loss on these samples."""
        if self.recipe.start == "noise":
            start = noise_memory(self.recipe, self.header, self.rows, self._generator)
        else:
            start = principal_memory(self.recipe, self.header, self.rows, images, labels, self._generator)
        if not self.recipe.reuse or not self._finished:
            return start
        candidates = [start, *self._finished]
        return min(candidates, key=lambda memory: self._loss_of(memory, images, self._targets[labels]))

    @torch.no_grad()
    def _loss_of(self, memory: AddressedBases, images: Tensor, targets: Tensor) -> float:
        losses = [self._objective.loss(memory, images, targets, self._generator) for _ in range(TRIALS)]
        return float(torch.stack(losses).mean())

    def _begin(self, start: AddressedBases) -> None:
        # Contiguous, like a restored state.
        first = {name: value.detach().contiguous() for name, value in start.tensors().items()}
        self._leaves = {name: value.clone().requires_grad_() for name, value in first.items()}
        if self.recipe.average:
            self._average = {name: value.clone() for name, value in first.items()}
        if self.recipe.optimiser == "sgd":
            self._optimiser = torch.optim.SGD(self._leaves.values(), lr=self.recipe.outer_rate, momentum=0.5)
        else:
            self._optimiser = torch.optim.Adam(self._leaves.values(), lr=self.recipe.outer_rate)

    def _outer_step(self, images: Tensor, targets: Tensor) -> None:
        assert self._optimiser is not None, "the start comes first"
        self._optimiser.zero_grad()
        loss = self._objective.loss(self._like.replace(self._leaves), images, targets, self._generator)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._leaves.values(), self.recipe.clip or math.inf)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"the outer loss is {loss.item():g} and its gradient has norm {norm.item():g} at outer step "
                f"{self.steps} of the task {self.header.name}; try a lower `rate` or `outer_rate`"
            )
        if self.recipe.settle:  # the length of a task is not known, so the rate falls with the steps taken
            self._optimiser.param_groups[0]["lr"] = self.recipe.outer_rate / (1 + self.steps / self.recipe.settle)
        self._optimiser.step()
        self.steps += 1
        for name, value in self._average.items():
            value.lerp_(self._leaves[name].detach(), 1 - self.recipe.average)

    def state(self) -> State:
        """The state, without the generator, which belongs to the owner."""
        tensors = prefixed("leaves", {name: leaf.detach() for name, leaf in self._leaves.items()})
        tensors |= prefixed("average", self._average)
        if self._optimiser is not None:
            for name, leaf in self._leaves.items():
                tensors |= prefixed(f"optimiser.{name}", _tensors_of(self._optimiser.state.get(leaf, {})))
        return State({"seen": self.seen, "steps": self.steps, "owed": self.owed}, tensors)

    def restore(self, state: State) -> None:
        """Restore the state from `state()`. Raises KeyError, TypeError or ValueError for anything else."""
        self.seen, self.steps, self.owed = (state.values[key] for key in ("seen", "steps", "owed"))
        leaves = with_prefix("leaves", state.tensors)
        if leaves:
            self._begin(self._like.replace(leaves))
            self._average = {name: value.clone() for name, value in with_prefix("average", state.tensors).items()}
            assert self._optimiser is not None, "the start came first"
            for name, leaf in self._leaves.items():
                kept = with_prefix(f"optimiser.{name}", state.tensors)
                if kept:
                    self._optimiser.state[leaf] = {key: value.clone() for key, value in kept.items()}


def _together(images: Tensor, labels: Tensor, samples: AbstractSamples, count: int) -> tuple[Tensor, Tensor]:
    """The new samples and `count` random samples of the buffer."""
    stored, their_labels = samples.draw(count)
    return torch.cat([stored, images]), torch.cat([their_labels, labels])


def _tensors_of(state: Mapping[str, object]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def make_objective(recipe: StreamMethod, header: TaskHeader, device: torch.device) -> AbstractStreamObjective:
    """The objective: for an MLP, inner training in the span of the bases on the CPU; else on recalled images."""
    network = build_network(recipe.network, header.image_shape, len(header.classes))
    if isinstance(network, MLP):
        return SubspaceUnrolled(
            network, recipe.steps, recipe.window, recipe.rate, recipe.momentum, recipe.rows_per_class
        )
    step = inner_step(network, device)
    return RecalledUnrolled(
        Unrolled(
            step,
            steps=recipe.steps,
            window=recipe.window,
            rate=recipe.rate,
            rows_per_class=recipe.rows_per_class,
            training=Momentum(recipe.momentum),
        ),
        device,
    )
