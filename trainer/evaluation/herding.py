"""The baseline of herded real pictures (Welling, 2009), beside which bundles are evaluated."""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.data.enlargement import Enlargement
from trainer.data.splits import Split
from trainer.starts.real.selection import herding

CANDIDATES = 5_000


def herd(split: Split, preprocessing: AbstractPreprocessing, *, classes: int, each: int) -> Tensor:
    """Pictures [classes, each, C, H, W] in pixel space, chosen by their half-resolution coordinates in model space.

    The first CANDIDATES pictures of each class are candidates. A class with fewer than `each` repeats its pictures.
    """
    half = Enlargement.from_half(*split.images.shape[2:])
    chosen = []
    for label in range(classes):
        members = split.of_class(label, CANDIDATES)
        parts = [half.coordinates(preprocessing.to_model(chunk.pixels())) for chunk in members.chunks()]
        order = herding(torch.cat(parts), min(each, len(members)))
        chosen.append(members.select(order.repeat(-(-each // len(order)))[:each]).pixels())
    return torch.stack(chosen)
