"""Whether the items that a memory recalls lie nearer to the pictures that it was made from than to others."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recall_server.core.classifier.expected_accuracy import wilson_interval
from trainer.data.splits import Split
from trainer.evaluation.audit.attack import Estimate
from trainer.evaluation.audit.shown import Attacked


class Neighbours(NamedTuple):
    """Of so many `items`, the share that is `nearer` to a member of its class than to all others (Wilson's interval).

    By chance it is one half, since as many members as others are compared. `to_members` and `to_others` are the medians
    of the distances to the nearest, in model space.
    """

    items: int
    nearer: Estimate
    to_members: float
    to_others: float


def neighbours(attacked: Attacked, members: Split, others: Split, generator: torch.Generator) -> Neighbours:
    """The nearest pictures of all items. Of the larger side, a random selection of each class is compared."""
    items, found = attacked.items().flatten(2), []
    for label in range(len(items)):
        sides = [_of_class(side, label) for side in (members, others)]
        count = min(map(len, sides))
        if count:
            chosen = [side.select(torch.randperm(len(side), generator=generator)[:count]) for side in sides]
            found.append(torch.stack([_nearest(attacked, items[label], side) for side in chosen]))
    distances = torch.cat(found, dim=1)  # [2, items]
    right, total = int((distances[0] < distances[1]).sum()), distances.shape[1]
    to_members, to_others = distances.median(dim=1).values.tolist()
    return Neighbours(total, Estimate(right / total, *wilson_interval(right, total)), to_members, to_others)


def _of_class(split: Split, label: int) -> Split:
    return split.select(torch.nonzero(split.labels == label).flatten())


def _nearest(attacked: Attacked, items: Tensor, split: Split) -> Tensor:
    """The distance [r] of each item [r, p] to the nearest picture."""
    parts = [
        torch.cdist(items, attacked.preprocessing.to_model(part.pixels()).flatten(1)).amin(dim=1)
        for part in split.chunks()
    ]
    return torch.stack(parts).amin(dim=0)
