"""What a kernel is to kernel regression: products of recalled items with each other and with real ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.objectives.base import State
from trainer.objectives.sampler import Sampler


class Products(NamedTuple):
    """Kernel values of recalled items with each other, `support` [n, n], and of real items with them, `cross` [m, n].

    `support` is float64, because it is about to be inverted.
    """

    support: Tensor
    cross: Tensor


class AbstractKernel(ABC):
    """A kernel of items, fixed or drawn anew for every loss, or of networks that are kept between outer steps."""

    @abstractmethod
    def products(self, recalled: Tensor, real: Tensor, state: State, generator: torch.Generator) -> Products:
        """Of items [n, *shape] and [m, *shape], differentiable in the recalled ones."""

    def begin(self, generator: torch.Generator) -> State:
        """What is kept between outer steps, before the first one."""
        return {}

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        """What is kept, after an outer step."""
        return state
