"""The kernel of features that networks have which learn the memory: FRePo's pool (Zhou et al., 2022).

k(x, y) = <phi(x), phi(y)>, with the inputs phi of the last layer of one network of a pool, which learns by the squared
error of the recalled items' targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.memory import Recalled
from trainer.objectives.base import State
from trainer.objectives.inner.layer_features import AbstractLayerFeatures
from trainer.objectives.inner.network_pool import NetworkPool
from trainer.objectives.kernel.base import AbstractKernel, Products
from trainer.objectives.sampler import Sampler


@final
@dataclass(frozen=True)
class TrainedPool(AbstractKernel):
    """`features` are those of the networks of the pool."""

    features: AbstractLayerFeatures
    pool: NetworkPool

    def begin(self, generator: torch.Generator) -> State:
        return self.pool.begin(generator)

    def products(self, recalled: Tensor, real: Tensor, state: State, generator: torch.Generator) -> Products:
        parameters = {name: value.to(recalled.dtype) for name, value in self.pool.parameters(state).items()}
        own = self.features(parameters, recalled)[-1]
        with torch.no_grad():
            theirs = self.features(parameters, real)[-1]
        return Products(own.double() @ own.double().T, theirs @ own.T)

    @torch.no_grad()
    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        items, targets = support_of(everything_recalled(sampler, generator))
        return self.pool.advance(state, items, targets, generator)


def everything_recalled(sampler: Sampler, generator: torch.Generator) -> Recalled:
    """What queries of all classes recall."""
    return sampler.memory.recall(sampler.real_batch(sampler.draw_classes(0, generator), 1, generator).queries)


def support_of(recalled: Recalled) -> tuple[Tensor, Tensor]:
    """Recalled items [q, n, *shape] as a support [q * n, *shape] with targets [q * n, q]; each row sums to 0."""
    targets = recalled.targets.expand(-1, recalled.items.shape[1], -1).flatten(0, 1)
    return recalled.items.flatten(0, 1), targets - targets.mean(dim=1, keepdim=True)
