"""Herding: selects real pictures whose running mean stays closest to the mean of their class (Welling, 2009).

It is a baseline of dataset distillation that selects pictures instead of synthesising them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.data.half_resolution import HalfResolution
from trainer.data.splits import Split


def herding(features: Tensor, count: int) -> Tensor:
    """Indices [count] of distinct rows of `features` [N, p], in the order in which they are chosen.

    Each choice brings the mean of the chosen rows closest to the mean of all (iCaRL, Rebuffi et al., 2017,
    algorithm 4). Raises ValueError if `count` exceeds N.
    """
    if count > len(features):
        raise ValueError(f"cannot choose {count} of {len(features)} pictures")
    mean = features.mean(dim=0)
    total, chosen = torch.zeros_like(mean), torch.zeros(len(features), dtype=torch.bool)
    order = []
    for number in range(1, count + 1):
        distance = ((total + features) / number - mean).square().sum(dim=1)
        best = int(distance.masked_fill(chosen, torch.inf).argmin())
        total, chosen[best] = total + features[best], True
        order.append(best)
    return torch.tensor(order)


def herd(split: Split, preprocessing: AbstractPreprocessing, *, classes: int, each: int, most: int = 5_000) -> Tensor:
    """Pictures [classes, each, C, H, W] in pixel space, chosen by their half-resolution coordinates in model space.

    The first `most` pictures of each class are candidates. A class with fewer than `each` repeats its pictures.
    """
    half = HalfResolution.of(*split.images.shape[2:])
    chosen = []
    for label in range(classes):
        members = split.of_class(label, most)
        parts = [half.coordinates(preprocessing.to_model(chunk.pixels())) for chunk in members.chunks()]
        order = herding(torch.cat(parts), min(each, len(members)))
        chosen.append(members.select(order.repeat(-(-each // len(order)))[:each]).pixels())
    return torch.stack(chosen)
