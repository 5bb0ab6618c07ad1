"""The loss after a few steps from networks that learn the memory all along: label distillation (Bohdal et al., 2020).

Other methods train a fresh network for every outer step. Here networks keep training on what is recalled, and the outer
loss is that after a few further steps. An outer step is therefore cheap, but knows nothing of the steps after these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.inner.inner_training import Momentum
from trainer.objectives.inner.network_pool import NetworkPool
from trainer.objectives.inner.steps.step import AbstractInnerStep
from trainer.objectives.kernel.trained_pool import everything_recalled
from trainer.objectives.sampler import OuterBatch, Sampler


@final
@dataclass(frozen=True, eq=False)
class StepsAhead(AbstractObjective):
    """`steps` of plain SGD at `rate`, each on `batch` recalled items, then the loss on about `real_batch` real ones."""

    step: AbstractInnerStep
    pool: NetworkPool
    steps: int
    rate: float
    batch: int
    real_batch: int

    def begin(self, generator: torch.Generator) -> State:
        return self.pool.begin(generator)

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        batch = sampler.draw_batch(self.real_batch, generator)
        return self.score(batch, state, generator)

    def score(self, batch: OuterBatch, state: State, generator: torch.Generator) -> Tensor:
        """The loss on the real items of a batch."""
        items = batch.recalled.items.flatten(0, 1)
        targets = batch.recalled.targets.expand(-1, batch.recalled.items.shape[1], -1).flatten(0, 1)
        size = min(self.batch, len(items))
        index = torch.rand(self.steps, len(items), generator=generator).argsort(dim=1)[:, :size].to(items.device)
        training = Momentum(0.0)
        begun = training.begin(self.pool.parameters(state), items.new_tensor(self.rate))
        after = training.unroll(self.step, begun, items[index], targets[index])
        return self.step.evaluate(after.parameters, batch.items, batch.targets)

    @torch.no_grad()
    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        recalled = everything_recalled(sampler, generator)
        targets = recalled.targets.expand(-1, recalled.items.shape[1], -1).flatten(0, 1)
        return self.pool.advance(state, recalled.items.flatten(0, 1), targets, generator)
