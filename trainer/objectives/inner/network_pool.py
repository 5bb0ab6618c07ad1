"""Networks that train on the memory while it is distilled, and are replaced after a number of steps.

The networks take turns, one in each outer step. After the outer step, the network takes a step of Adam on recalled
items, or a fresh network replaces it. Nothing is unrolled: the networks are constants for the outer gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.networks import AbstractNetwork, Parameters
from recall_server.core.training.fused import fused_logits, trainable_parameters

NETWORK, FIRST, SECOND = "network.", "first.", "second."  # parameters [P, ...] and Adam's moments, in the state
AGES, TURN = "ages", "turn"  # steps that each network has taken [P], and whose turn it is
FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8  # Kingma and Ba (2015)

PoolState = dict[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]  # of logits [N, k] and targets [N, k]


def half_squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error, summed over classes; the mean over items."""
    return (logits - targets).square().sum(dim=1).mean() / 2


@final
@dataclass(frozen=True)
class NetworkPool:
    """So many `networks`, each trained by `loss` for `longest` steps at `rate` on up to `batch` items."""

    network: AbstractNetwork
    networks: int
    rate: float
    longest: int
    batch: int
    loss: Loss = half_squared_error

    def begin(self, generator: torch.Generator) -> PoolState:
        """Fresh networks, on the CPU."""
        drawn = [self._fresh(generator) for _ in range(self.networks)]
        state = {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]}
        # As if they had begun one after another, so that at any time there are networks of every age.
        state[AGES] = torch.arange(self.networks) * self.longest // self.networks
        state[TURN] = self._draw_turn(generator)
        return state

    def parameters(self, state: PoolState) -> Parameters:
        """The network whose turn it is."""
        return _member(state, NETWORK)

    def advance(self, state: PoolState, items: Tensor, targets: Tensor, generator: torch.Generator) -> PoolState:
        """The state after this network has learned some of the recalled items, or was drawn anew."""
        turn, ages = int(state[TURN]), state[AGES].clone()
        if int(ages[turn]) >= self.longest:
            changed, ages[turn] = self._fresh(generator), 0
        else:
            chosen = torch.randperm(len(items), generator=generator)[: self.batch].to(items.device)
            changed = self._trained(state, items[chosen], targets[chosen])
            ages[turn] += 1
        state = dict(state)
        for name, value in changed.items():
            state[name] = state[name].clone()
            state[name][turn] = value.to(state[name].device)
        return state | {AGES: ages, TURN: self._draw_turn(generator)}

    def _draw_turn(self, generator: torch.Generator) -> Tensor:
        return torch.randint(self.networks, (), generator=generator)

    def _fresh(self, generator: torch.Generator) -> PoolState:
        parameters = self.network.initialise(generator)
        still = {name: torch.zeros_like(parameters[name]) for name in trainable_parameters(self.network)}
        return _named(NETWORK, parameters) | _named(FIRST, still) | _named(SECOND, still)

    def _trained(self, state: PoolState, items: Tensor, targets: Tensor) -> PoolState:
        """The network whose turn it is after a step of Adam."""
        parameters, first, second = (_member(state, prefix) for prefix in (NETWORK, FIRST, SECOND))
        leaves = {name: parameters[name].clone().requires_grad_() for name in first}
        with torch.enable_grad():
            loss = self.loss(fused_logits(self.network, parameters | leaves, items), targets)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        count = int(state[AGES][int(state[TURN])]) + 1
        changed: PoolState = {}
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            mean = FIRST_DECAY * first[name] + (1 - FIRST_DECAY) * gradient
            square = SECOND_DECAY * second[name] + (1 - SECOND_DECAY) * gradient.square()
            root = (square / (1 - SECOND_DECAY**count)).sqrt() + EPSILON
            changed[NETWORK + name] = leaf.detach() - self.rate / (1 - FIRST_DECAY**count) * mean / root
            changed[FIRST + name], changed[SECOND + name] = mean, square
        return changed


def _member(state: PoolState, prefix: str) -> Parameters:
    turn = int(state[TURN])
    return {name.removeprefix(prefix): value[turn] for name, value in state.items() if name.startswith(prefix)}


def _named(prefix: str, parameters: Mapping[str, Tensor]) -> PoolState:
    return {prefix + name: value for name, value in parameters.items()}
