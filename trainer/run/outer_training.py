"""Outer steps: the gradient of an objective changes the tensors of components.

This module does not depend on the kind of memory or objective, and knows neither limits nor files. `distill.py` trains
on a data set until a limit; `trainer.streams` trains on minibatches as they arrive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from recall_server.core.io.tensor_file import with_prefix
from recall_server.core.memory import Storage
from recall_server.core.training.updates import State
from trainer.methods.specs.outer import Outer
from trainer.objectives.components import Components
from trainer.objectives.real_data import AbstractRealData
from trainer.objectives.sampler import Sampler
from trainer.run.parallel.distributed import ALONE, Processes


class OuterStep(NamedTuple):
    """The loss of an outer step, the norm of its gradient before clipping, and the rate of the first tensor."""

    loss: float
    gradient_norm: float
    rate: float


class OuterTraining:
    """Components and what trains them: the optimiser's state, the running average, and the state of the objective.

    All random choices come from `generator`, which belongs to the caller.
    """

    def __init__(
        self, components: Components, outer: Outer, generator: torch.Generator, ranks: Processes = ALONE
    ) -> None:
        self.components, self.outer, self.generator, self.ranks = components, outer, generator, ranks
        self.leaves = components.tensors()
        self.state = components.objective.begin(generator)
        self.rates = outer.rates_of(self.leaves)
        self.optimiser_state: dict[str, State] = {name: {} for name in self.leaves}
        self.average = self._copies(self.leaves) if outer.average else {}
        self.steps = 0

    def step(self, data: AbstractRealData, *, done: float = 0.0, storage: Storage = "float32") -> OuterStep:
        """Take one step, when a fraction `done` of the run is over. Recalled items are rounded as `storage` would.

        Raises FloatingPointError, before anything is changed, for a loss or a gradient that is not finite.
        """
        rates = {name: self.outer.rate_after(rate, self.steps, done) for name, rate in self.rates.items()}
        for leaf in self.leaves.values():
            leaf.grad = None
        loss = self._gradient(self.components.sampler(data, storage))
        norm = torch.nn.utils.clip_grad_norm_(self.leaves.values(), self.outer.clip or math.inf)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"the outer loss is {loss.item():g} and its gradient has norm {norm.item():g} at outer step "
                f"{self.steps}; the last good state is kept. Start anew with a lower `outer.rate`"
            )
        for name, leaf in self.leaves.items():
            if leaf.grad is not None:
                self.outer.optimiser.update(leaf, leaf.grad, self.optimiser_state[name], rates[name])
        self.state = self.components.objective.advance(self.components.sampler(data), self.state, self.generator)
        self.steps += 1
        for name, value in self.average.items():
            value.lerp_(self.leaves[name].detach(), 1 - self.outer.average)
        return OuterStep(loss.item(), norm.item(), next(iter(rates.values())))

    def _gradient(self, sampler: Sampler) -> Tensor:
        """The mean loss of this step's draws over all ranks. Its gradient is left in the leaves."""
        total = torch.zeros((), device=self.components.device)
        for generator in self._generators():
            loss = self.components.objective.loss(sampler, self.state, generator) / self.outer.draws
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        gradients = (leaf.grad for leaf in self.leaves.values() if leaf.grad is not None)
        self.ranks.all_reduce([total, *gradients])
        return total

    def _generators(self) -> list[torch.Generator]:
        """One generator for each draw of this rank, independent of the rank; for a single draw, the run's own."""
        if self.outer.draws == 1:
            return [self.generator]
        seeds = torch.randint(2**62, (self.outer.draws,), generator=self.generator).tolist()
        return [torch.Generator().manual_seed(seeds[number]) for number in self.ranks.share(self.outer.draws)]

    def kept(self) -> dict[str, Tensor]:
        """Copies of the learned tensors, or of their running averages if there are any."""
        return self._copies(self.average or self.leaves)

    @contextmanager
    def holding_what_is_kept(self) -> Iterator[None]:
        """Within the block, the components hold what `kept` returns."""
        last = self._copies(self.leaves)
        self._assign(self.average)
        try:
            yield
        finally:
            self._assign(last)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that later steps depend on, except the generator."""
        tensors = {f"learned.{name}": leaf.detach() for name, leaf in self.leaves.items()}
        for name, state in self.optimiser_state.items():
            tensors |= {f"optimiser.{name}/{key}": value for key, value in state.items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= {f"state.{name}": value for name, value in self.state.items()}
        return tensors | {"steps": torch.tensor(self.steps)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `tensors` returned. Raises KeyError or RuntimeError for anything else."""
        self._assign({name: tensors[f"learned.{name}"] for name in self.leaves})
        device = self.components.device
        for name in self.leaves:
            state = with_prefix(f"optimiser.{name}/", tensors)
            self.optimiser_state[name] = {
                key: value if key == "step" else value.to(device) for key, value in state.items()
            }
        self.average = {name: tensors[f"average.{name}"].to(device) for name in self.average}
        self.state = {name: value.to(device) for name, value in with_prefix("state.", tensors).items()}
        self.steps = int(tensors["steps"])

    @torch.no_grad()
    def _assign(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.leaves[name].copy_(value)

    @staticmethod
    def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in tensors.items()}
