"""Networks that train on recalled items for as long as this changes their accuracy on real ones (CAFE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from recall_server.core.networks import Parameters
from recall_server.core.training.descent import predicted_logits
from trainer.objectives.base import State
from trainer.objectives.matching.networks import MATCHINGS, NETWORK, NetworksTrainedOnRecalled, TrainedNetworks
from trainer.objectives.sampler import Sampler

ACCURACIES: Final = "accuracies"  # in the state: the last ones of this network, -1 where there were none yet
WINDOW: Final = 10  # accuracies whose spread is looked at


@final
@dataclass(frozen=True)
class SteadyNetworks(TrainedNetworks):
    """A network is given up when its last ten accuracies after comparisons lie within `steady` of each other.

    Between two comparisons it learns recalled items epoch by epoch, by `training`, until the last ten accuracies lie
    further apart than `moved`. Accuracies are those on `per_class` random real items of each class. The authors' loops
    may never end; here there are at most `loops` comparisons and `training.epochs` epochs.
    """

    training: NetworksTrainedOnRecalled
    loops: int
    steady: float = 0.04
    moved: float = 0.03
    per_class: int = 128

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", self.training.step)

    def matchings(self, sampler: Sampler) -> int:
        return self.loops

    def begin(self, generator: torch.Generator) -> State:
        return super().begin(generator) | {ACCURACIES: torch.full((WINDOW,), -1.0)}

    @torch.no_grad()
    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        network = self.parameters(state, generator, sampler.real.items.device)
        last = _with(state[ACCURACIES], self._accuracy(sampler, network, generator))
        if bool((last >= 0).all()) and float(last.max() - last.min()) < self.steady:
            state = state | {MATCHINGS: torch.full_like(state[MATCHINGS], self.loops)}  # this was its last
        after = super().advance(sampler, state | {ACCURACIES: last}, generator)
        return after if int(after[MATCHINGS]) else after | {ACCURACIES: torch.full_like(last, -1.0)}

    @torch.no_grad()
    def trained(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        network = self.parameters(state, generator, sampler.real.items.device)
        last = torch.full((WINDOW,), -1.0)
        for _ in range(self.training.epochs):
            network = self.training.after_epoch(sampler, network, generator)
            last = _with(last, self._accuracy(sampler, network, generator))
            if bool((last >= 0).all()) and float(last.max() - last.min()) > self.moved:
                break
        return {NETWORK + name: value for name, value in network.items()}

    def _accuracy(self, sampler: Sampler, network: Parameters, generator: torch.Generator) -> float:
        batch = sampler.draw_all(self.per_class, generator)
        found = predicted_logits(self.step.network, network, batch.items).argmax(dim=1)
        return float((found == batch.targets.argmax(dim=1)).float().mean())


def _with(accuracies: Tensor, latest: float) -> Tensor:
    """The same window with a new accuracy at its end."""
    return torch.cat([accuracies[1:], accuracies.new_tensor([latest])])
