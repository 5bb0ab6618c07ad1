"""Trajectory matching (MTT, Cazenavette et al., 2022): training on recalled items reaches the weights of an expert.

With an expert's parameters theta*_s after s epochs, and theta_T after T steps on recalled items from theta*_s:

    || theta_T - theta*_(s + M) ||^2  /  || theta*_s - theta*_(s + M) ||^2
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.memory import Recalled
from recall_server.core.networks import Parameters
from recall_server.core.training.augmentation import augment
from recall_server.core.training.retraining import Retraining
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.inner.inner_training import AbstractInnerTraining
from trainer.objectives.inner.steps.step import AbstractInnerStep
from trainer.objectives.sampler import Sampler
from trainer.objectives.trajectory.experts import Experts, Segment

RATE = "rate"  # the learned tensor that holds the step size
LOWEST_RATE, HIGHEST_RATE = 1e-6, 10.0  # limits of a step size in a manifest


@final
@dataclass(frozen=True, eq=False)
class TrajectoryMatching(AbstractObjective):
    """`steps` steps on recalled items replace `expert_epochs` epochs on real ones.

    Segments of experts start after 0 to `latest_start` - 1 epochs. A step uses `batch` recalled items (0: all), in an
    order that is shuffled again after each pass. Each item has its own augmentation. `rate` is a leaf, and is learned
    with the memory if `learn_rate` is set.
    """

    step: AbstractInnerStep
    training: AbstractInnerTraining
    experts: Experts
    rate: Tensor
    steps: int
    expert_epochs: int
    latest_start: int
    batch: int = 0
    learn_rate: bool = True
    augmentation: tuple[str, ...] = ()

    def learned(self) -> dict[str, Tensor]:
        return {RATE: self.rate} if self.learn_rate else {}

    def retraining(self, schedule: Retraining, tensors: Mapping[str, Tensor]) -> Retraining:
        """The schedule with the learned step size."""
        if RATE not in tensors:
            return schedule
        rate = min(HIGHEST_RATE, max(LOWEST_RATE, tensors[RATE].item()))
        return schedule.model_copy(update={"learning_rate": rate})

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        device = sampler.real.items.device
        segment = self.experts.draw(self.latest_start, self.expert_epochs, generator, device)
        recalled = sampler.draw_all(1, generator).recalled
        return self.compare(recalled, segment, generator)

    def compare(self, recalled: Recalled, segment: Segment, generator: torch.Generator, *, variants: int = 1) -> Tensor:
        """The distance to the target after training on the recalled items, divided by the length of the segment.

        `variants` adjacent items come from one base. Each step uses the same variant of all its bases.
        """
        items, targets = self._minibatches(recalled, generator, variants)
        begun = self.training.begin(segment.start, self.rate)
        end: Parameters = self.training.unroll(self.step, begun, items, targets).parameters
        return squared_distance(end, segment.target) / squared_distance(segment.start, segment.target)

    def _minibatches(self, recalled: Recalled, generator: torch.Generator, variants: int = 1) -> tuple[Tensor, Tensor]:
        """Items [steps, B, *shape] and targets [steps, B, k]."""
        items = recalled.items.flatten(0, 1)
        targets = recalled.targets.expand(-1, recalled.items.shape[1], -1).flatten(0, 1)
        stored = len(items) // variants
        size = min(self.batch or stored, stored)
        each = stored // size  # minibatches of an order; the rest of it is left out
        orders = [
            torch.randperm(stored, generator=generator)[: each * size].view(each, size)
            for _ in range(-(-self.steps // each))
        ]
        index = torch.cat(orders)[: self.steps]
        if variants > 1:
            index = variants * index + torch.randint(variants, (self.steps, 1), generator=generator)
        index = index.to(items.device)
        augmented = [augment(items[each], self.augmentation, generator) for each in index]
        return torch.stack(augmented), targets[index]


def squared_distance(one: Parameters, other: Parameters) -> Tensor:
    """The sum of squared differences over all parameters."""
    return torch.stack([(one[name] - other[name]).square().sum() for name in one]).sum()
