"""What a memory shows of a picture, from which an attacker guesses whether it was made from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.memory import AbstractMemory, DescribedClasses
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.retraining import Retraining
from trainer.data.splits import Split

SMALLEST: Final = 1e-30  # probability
STATISTICS: Final = ("loss", "distance")


class Attacked(NamedTuple):
    """A memory, its model space, and the schedule by which classifiers are trained on it."""

    memory: AbstractMemory
    preprocessing: AbstractPreprocessing
    retraining: Retraining

    def items(self) -> Tensor:
        """What the memory shows of each class [C, r, *shape] in model space: its items, or the centres of a class."""
        queries = torch.eye(self.memory.query_size)
        with torch.no_grad():
            if isinstance(self.memory, DescribedClasses):
                return self.memory.typical(queries)
            return self.memory.items(queries)


def shown(attacked: Attacked, split: Split, labels: Sequence[str], *, seed: int, device: torch.device) -> Tensor:
    """[2, N], float64: for each statistic, a number for each picture of the split that is larger if it looks known.

    `loss` is that of a fresh classifier, as the log of the odds of the picture's own class; `distance` is that to the
    nearest item of the class, negative.
    """
    return torch.stack([margins(attacked, split, labels, seed=seed, device=device), -distances(attacked, split)])


def margins(attacked: Attacked, split: Split, labels: Sequence[str], *, seed: int, device: torch.device) -> Tensor:
    """The log odds [N] of the right class, by a fresh classifier that is trained on what the memory recalls."""
    shape = split.images.shape[1], split.images.shape[2], split.images.shape[3]
    with torch.no_grad():
        items, targets = attacked.memory.recall(torch.eye(len(labels)))
    items = items.reshape(*items.shape[:2], *shape)
    classifier = FreshClassifier(labels, shape, attacked.preprocessing, attacked.retraining, seed=seed, device=device)
    classifier.fit(items, targets)
    found = []
    for part in split.chunks():
        probabilities = classifier.predict_probabilities(part.pixels()).double()
        own = probabilities.gather(1, part.labels[:, None])[:, 0]
        others = probabilities.scatter(1, part.labels[:, None], 0).sum(dim=1)
        found.append(own.clamp(min=SMALLEST).log() - others.clamp(min=SMALLEST).log())
    return torch.cat(found)


def distances(attacked: Attacked, split: Split) -> Tensor:
    """The distance [N] from each picture to the nearest item of its class, in model space."""
    items, found = attacked.items().flatten(2), []
    for part in split.chunks():
        seen = attacked.preprocessing.to_model(part.pixels()).flatten(1)
        nearest = torch.zeros(len(part), dtype=torch.float64)
        for label in torch.unique(part.labels):
            chosen = part.labels == label
            nearest[chosen] = torch.cdist(seen[chosen], items[label]).amin(dim=1).double()
        found.append(nearest)
    return torch.cat(found)
