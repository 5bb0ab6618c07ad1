"""The networks at which recalled and real items are compared, and how they change between outer steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch

from recall_server.core.networks import AbstractNetwork, Parameters
from trainer.objectives.base import State
from trainer.objectives.sampler import Sampler


class AbstractNetworks(ABC):
    """Parameters of a network for every outer step; what is kept between steps is part of the objective's state."""

    network: AbstractNetwork

    @abstractmethod
    def parameters(self, state: State, generator: torch.Generator, device: torch.device) -> Parameters:
        """The network of this outer step, on the device."""

    def begin(self, generator: torch.Generator) -> State:
        """The state before the first outer step."""
        return {}

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        """The state for the next outer step."""
        return state


@final
@dataclass(frozen=True)
class FreshNetworks(AbstractNetworks):
    """A new random network for every loss: nothing is ever trained."""

    network: AbstractNetwork

    def parameters(self, state: State, generator: torch.Generator, device: torch.device) -> Parameters:
        return {name: value.to(device) for name, value in self.network.initialise(generator).items()}
