"""AXIS 2 of the design: what a memory is trained for.

An objective asks a sampler for recalled and real items, and returns a loss that is differentiable in the memory. Inner
networks, schedules and what is kept between outer steps belong to the objective; outer steps
(`trainer/run/outer_training`) know none of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from recall_server.core.training.retraining import Retraining
from trainer.objectives.sampler import Sampler

State = dict[str, Tensor]  # what an objective keeps between outer steps, on the memory's device; checkpoints hold it


class AbstractObjective(ABC):
    """A scalar loss of an outer step. Every random choice comes from the generator, which lives on the CPU."""

    requires: ClassVar[frozenset[str]] = frozenset()  # traits that a memory must have

    @abstractmethod
    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        """The loss to minimise, a scalar. The state is not changed."""

    def begin(self, generator: torch.Generator) -> State:
        """The state before the first outer step: networks, pools, counters."""
        return {}

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        """The state after an outer step, for example with networks that were trained on."""
        return state

    def learned(self) -> dict[str, Tensor]:
        """The tensors that are optimised with the memory, by name: step sizes, discriminators."""
        return {}

    def retraining(self, schedule: Retraining, tensors: Mapping[str, Tensor]) -> Retraining:
        """The schedule that a bundle asks for, given the learned `tensors`."""
        return schedule
