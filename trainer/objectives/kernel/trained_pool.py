"""The kernel of features that networks have which learn the memory: FRePo's pool (Zhou et al., 2022).

k(x, y) = <phi(x), phi(y)>, with the inputs phi of the last layer of one network of a pool. After an outer step this
network takes a step of Adam on the recalled items, or is drawn anew once it has taken enough, and another one has its
turn. Nothing is unrolled: the networks are constants for the outer gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.memory import Recalled
from recall_server.core.networks import Parameters
from recall_server.core.training.fused import fused_logits, trainable_parameters
from trainer.objectives.base import State
from trainer.objectives.inner.layer_features import AbstractLayerFeatures
from trainer.objectives.kernel.base import AbstractKernel, Products
from trainer.objectives.sampler import Sampler

NETWORK, FIRST, SECOND = "network.", "first.", "second."  # parameters [P, ...] and Adam's moments, in the state
AGES, TURN = "ages", "turn"  # steps that each network has taken [P], and whose turn it is
FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8  # Kingma and Ba (2015)


@final
@dataclass(frozen=True)
class TrainedPool(AbstractKernel):
    """`networks` of the kind that `features` has, each trained for `longest` steps at `rate` on up to `batch` items."""

    features: AbstractLayerFeatures
    networks: int
    rate: float
    longest: int
    batch: int

    def begin(self, generator: torch.Generator) -> State:
        drawn = [self._fresh(generator) for _ in range(self.networks)]
        state = {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]}
        # As if they had begun one after another, so that at any time there are networks of every age.
        state[AGES] = torch.arange(self.networks) * self.longest // self.networks
        state[TURN] = self._draw_turn(generator)
        return state

    def products(self, recalled: Tensor, real: Tensor, state: State, generator: torch.Generator) -> Products:
        parameters = {name: value.to(recalled.dtype) for name, value in self._member(state, NETWORK).items()}
        own = self.features(parameters, recalled)[-1]
        with torch.no_grad():
            theirs = self.features(parameters, real)[-1]
        return Products(own.double() @ own.double().T, theirs @ own.T)

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        turn, ages = int(state[TURN]), state[AGES].clone()
        if int(ages[turn]) >= self.longest:
            changed, ages[turn] = self._fresh(generator), 0
        else:
            changed = self._trained(sampler, state, generator)
            ages[turn] += 1
        state = dict(state)
        for name, value in changed.items():
            state[name] = state[name].clone()
            state[name][turn] = value.to(state[name].device)
        return state | {AGES: ages, TURN: self._draw_turn(generator)}

    def _draw_turn(self, generator: torch.Generator) -> Tensor:
        return torch.randint(self.networks, (), generator=generator)

    def _fresh(self, generator: torch.Generator) -> State:
        parameters = self.features.network.initialise(generator)
        still = {name: torch.zeros_like(parameters[name]) for name in trainable_parameters(self.features.network)}
        return _named(NETWORK, parameters) | _named(FIRST, still) | _named(SECOND, still)

    def _member(self, state: State, prefix: str) -> Parameters:
        turn = int(state[TURN])
        return {name.removeprefix(prefix): value[turn] for name, value in state.items() if name.startswith(prefix)}

    def _trained(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        """The network whose turn it is after a step of Adam on the squared error of some recalled items."""
        with torch.no_grad():
            queries = sampler.real_batch(sampler.draw_classes(0, generator), 1, generator).queries
            items, targets = support_of(sampler.memory.recall(queries))
        chosen = torch.randperm(len(items), generator=generator)[: self.batch].to(items.device)
        parameters = self._member(state, NETWORK)
        first, second = self._member(state, FIRST), self._member(state, SECOND)
        leaves = {name: parameters[name].clone().requires_grad_() for name in first}
        with torch.enable_grad():
            logits = fused_logits(self.features.network, parameters | leaves, items[chosen])
            loss = (logits - targets[chosen]).square().sum(dim=1).mean() / 2
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        count = int(state[AGES][int(state[TURN])]) + 1
        changed: State = {}
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            mean = FIRST_DECAY * first[name] + (1 - FIRST_DECAY) * gradient
            square = SECOND_DECAY * second[name] + (1 - SECOND_DECAY) * gradient.square()
            root = (square / (1 - SECOND_DECAY**count)).sqrt() + EPSILON
            changed[NETWORK + name] = leaf.detach() - self.rate / (1 - FIRST_DECAY**count) * mean / root
            changed[FIRST + name], changed[SECOND + name] = mean, square
        return changed


def support_of(recalled: Recalled) -> tuple[Tensor, Tensor]:
    """Recalled items [q, n, *shape] as a support [q * n, *shape] with targets [q * n, q]; each row sums to 0."""
    targets = recalled.targets.expand(-1, recalled.items.shape[1], -1).flatten(0, 1)
    return recalled.items.flatten(0, 1), targets - targets.mean(dim=1, keepdim=True)


def _named(prefix: str, parameters: Mapping[str, Tensor]) -> State:
    return {prefix + name: value for name, value in parameters.items()}
