"""Clients that split a data set unevenly, and FedAvg of a linear head over them (McMahan et al., AISTATS 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from trainer.starts.features.trained_features import Labelled

FLOAT_BYTES = 4


def dirichlet_parts(labels: Tensor, clients: int, concentration: float, generator: torch.Generator) -> list[Tensor]:
    """Positions of each client's pictures: each class is divided by shares from a Dirichlet distribution.

    This is the division of Hsu, Qi and Brown (2019) by class. A client may have no picture of a class.
    """
    parts: list[list[Tensor]] = [[] for _ in range(clients)]
    for label in torch.unique(labels):
        members = torch.nonzero(labels == label).flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        gamma = torch._standard_gamma(torch.full((clients,), concentration, dtype=torch.float64), generator=generator)
        cuts = (len(members) * gamma.cumsum(0) / gamma.sum()).round().long()
        for part, some in zip(parts, torch.tensor_split(members, cuts[:-1]), strict=True):
            part.append(some)
    return [torch.cat(part) for part in parts]


@dataclass(frozen=True)
class FedAvg:
    """All clients take part in every round, with so many epochs of SGD each. Heads begin at zero and have no bias."""

    epochs: int
    rate: float
    batch: int = 50

    def rounds(self, clients: Sequence[Labelled], classes: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the weights [classes, D] of the server after each round, without end."""
        counts = torch.tensor([float(len(client.labels)) for client in clients])
        weights = torch.zeros(classes, clients[0].features.shape[1])
        while True:
            found = [self._train(weights.clone(), client, generator) for client in clients]
            weights = torch.einsum("n,ncd->cd", counts / counts.sum(), torch.stack(found))
            yield weights

    def _train(self, weights: Tensor, client: Labelled, generator: torch.Generator) -> Tensor:
        targets = one_hot(client.labels, len(weights)).float()
        for _ in range(self.epochs):
            for chosen in torch.split(torch.randperm(len(targets), generator=generator), self.batch):
                features = client.features[chosen].float()
                error = (features @ weights.T).softmax(dim=1) - targets[chosen]
                weights.addmm_(error.T, features, alpha=-self.rate / len(chosen))
        return weights


def bytes_of_a_round(clients: int, classes: int, width: int) -> int:
    """The head goes to each client and comes back, in float32."""
    return 2 * clients * classes * width * FLOAT_BYTES
