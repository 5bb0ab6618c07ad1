"""The networks at which recalled and real items are compared, and how they change between outer steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from recall_server.core.networks import AbstractNetwork, Parameters
from recall_server.core.training.augmentation import augment
from trainer.objectives.base import State
from trainer.objectives.inner.steps.step import AbstractInnerStep, TrainState
from trainer.objectives.matching.cut_mix import cut_mix
from trainer.objectives.sampler import Sampler

NETWORK, VELOCITY = "network.", "velocity."  # what names in the state begin with
NETWORKS, MATCHINGS = "networks", "matchings"  # how many networks came before, and comparisons at this one


class Age(NamedTuple):
    """How many networks came before this one, and how often it has been compared at."""

    networks: int
    matchings: int


class AbstractNetworks(ABC):
    """Parameters of a network for every outer step; what is kept between steps is part of the objective's state."""

    @abstractmethod
    def parameters(self, state: State, generator: torch.Generator, device: torch.device) -> Parameters:
        """The network of this outer step, on the device."""

    @abstractmethod
    def begin(self, generator: torch.Generator) -> State:
        """The state before the first outer step, on the CPU."""

    @abstractmethod
    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        """The state for the next outer step."""

    def age(self, state: State) -> Age:
        """Where the networks of this state stand."""
        return Age(int(state[NETWORKS]), int(state[MATCHINGS]))


@final
@dataclass(frozen=True)
class FreshNetworks(AbstractNetworks):
    """A new random network for every loss: nothing is ever trained."""

    network: AbstractNetwork

    def parameters(self, state: State, generator: torch.Generator, device: torch.device) -> Parameters:
        return {name: value.to(device) for name, value in self.network.initialise(generator).items()}

    def begin(self, generator: torch.Generator) -> State:
        return {NETWORKS: torch.tensor(0), MATCHINGS: torch.tensor(0)}

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        return state | {NETWORKS: state[NETWORKS] + 1}


class TrainedNetworks(AbstractNetworks):
    """One network after another, each compared at a number of times and trained in between."""

    step: AbstractInnerStep

    @abstractmethod
    def matchings(self, sampler: Sampler) -> int:
        """How often each network is compared at."""

    @abstractmethod
    def trained(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        """The parameters and velocity after the training between two comparisons, by their names in the state."""

    def parameters(self, state: State, generator: torch.Generator, device: torch.device) -> Parameters:
        return {name: value.to(device) for name, value in _under(NETWORK, state).items()}

    def begin(self, generator: torch.Generator) -> State:
        return {NETWORKS: torch.tensor(0), MATCHINGS: torch.tensor(0)} | self._fresh(generator)

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        if self.age(state).matchings + 1 < self.matchings(sampler):
            return state | {MATCHINGS: state[MATCHINGS] + 1} | self.trained(sampler, state, generator)
        device = sampler.real.items.device
        fresh = {name: value.to(device) for name, value in self._fresh(generator).items()}
        return state | {NETWORKS: state[NETWORKS] + 1, MATCHINGS: torch.zeros_like(state[MATCHINGS])} | fresh

    def _fresh(self, generator: torch.Generator) -> State:
        return {NETWORK + name: value for name, value in self.step.network.initialise(generator).items()}


@final
@dataclass(frozen=True)
class NetworksTrainedOnRecalled(TrainedNetworks):
    """Networks that learn the recalled items: `epochs` of SGD at `rate` between two of `loops` comparisons.

    With 0 `loops` they are those of the authors of gradient matching, by the number of recalled items of a class.
    """

    step: AbstractInnerStep
    loops: int
    epochs: int
    rate: float
    batch: int
    augmentation: tuple[str, ...] = ()

    def matchings(self, sampler: Sampler) -> int:
        return self._loops(sampler)[0]

    def trained(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        network = self.parameters(state, generator, sampler.real.items.device)
        for _ in range(self._loops(sampler)[1]):
            network = self.after_epoch(sampler, network, generator)
        return {NETWORK + name: value for name, value in network.items()}

    @torch.no_grad()
    def after_epoch(self, sampler: Sampler, network: Parameters, generator: torch.Generator) -> Parameters:
        """The network after it has seen every recalled item once."""
        recalled = sampler.draw_all(1, generator).recalled
        items = recalled.items.flatten(0, 1)
        targets = recalled.targets.expand(-1, recalled.items.shape[1], -1).flatten(0, 1)
        rate = items.new_tensor(self.rate)
        for drawn in _batches(len(items), self.batch, generator):
            index = drawn.to(items.device)
            images = augment(items[index], self.augmentation, generator)
            network = _descended(self.step, network, (images, targets[index]), rate)
        return network

    def _loops(self, sampler: Sampler) -> tuple[int, int]:
        return (self.loops, self.epochs) if self.loops else authors_loops(sampler.memory.rows)


@final
@dataclass(frozen=True)
class NetworksTrainedOnReal(TrainedNetworks):
    """Networks that learn real items: about `items` of them between two of `loops` comparisons (Kim et al., 2022).

    SGD with momentum, and with CutMix in a share `mixed` of the minibatches.
    """

    step: AbstractInnerStep
    loops: int
    items: int
    batch: int
    rate: float
    momentum: float
    weight_decay: float
    mixed: float
    augmentation: tuple[str, ...] = ()

    @torch.no_grad()
    def trained(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        real, device = sampler.real, sampler.real.items.device
        network = self.parameters(state, generator, device)
        velocity = {name: value.to(device) for name, value in _under(VELOCITY, state).items()}
        one_hot, rate = torch.eye(sampler.classes, device=device), real.items.new_tensor(self.rate)
        for _ in range(-(-self.items // self.batch)):
            index = torch.randint(len(real.items), (self.batch,), generator=generator).to(device)
            images = augment(real.items[index], self.augmentation, generator)
            batch = cut_mix(images, one_hot[real.labels[index]], self.mixed, generator)
            # The step adds the gradient to this velocity, and moves the parameters by the rate times the sum.
            before = {
                name: self.momentum * velocity[name] + self.weight_decay * value for name, value in network.items()
            }
            after = self.step.forward(TrainState(network, before, rate, torch.ones_like(rate)), *batch)
            network, velocity = after.parameters, after.velocity
        return {NETWORK + name: value for name, value in network.items()} | {
            VELOCITY + name: value for name, value in velocity.items()
        }

    def matchings(self, sampler: Sampler) -> int:
        return self.loops

    def _fresh(self, generator: torch.Generator) -> State:
        fresh = super()._fresh(generator)
        return fresh | {VELOCITY + name.removeprefix(NETWORK): torch.zeros_like(each) for name, each in fresh.items()}


def authors_loops(rows: int) -> tuple[int, int]:
    """Comparisons at each network and epochs between them, for `rows` items of a class (Zhao et al., 2021, get_loops).

    The authors give those for 1, 10, 20, 30, 40 and 50. At one item no network is ever trained.
    """
    return (1, 1) if rows < 10 else (rows, max(1, 500 // rows))


def _descended(step: AbstractInnerStep, network: Parameters, batch: tuple[Tensor, Tensor], rate: Tensor) -> Parameters:
    still = {name: torch.zeros_like(value) for name, value in network.items()}
    return step.forward(TrainState(network, still, rate, torch.zeros_like(rate)), *batch).parameters


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    yield from torch.split(torch.randperm(count, generator=generator), size)


def _under(prefix: str, state: State) -> Parameters:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
