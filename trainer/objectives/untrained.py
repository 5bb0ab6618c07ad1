"""No objective: the memory stays as it starts."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.sampler import Sampler


@final
class Untrained(AbstractObjective):
    """The objective of methods that take no outer step."""

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        raise ValueError("the objective none trains nothing; set outer.steps=0, or choose another objective")
