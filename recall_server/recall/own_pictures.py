"""The pictures that somebody shows, among the images that a classifier learns from.

A memory that is asked by pictures says what else is known of things like them; what the pictures themselves say is as
good as it gets, and free. Both together teach more than either (docs/tried.md has figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recall_server.recall.training_set import TrainingSet, as_pictures


def add_own_pictures(met: TrainingSet, shown: Sequence[Tensor]) -> TrainingSet:
    """The same training set with the pictures [n, c, h, w] of each query, in pixel space, as further rows of it.

    Where a class has fewer pictures than another its own are repeated in turn, so that every class has as many rows.
    """
    most = max(len(pictures) for pictures in shown)
    channels, height, width = met.images.shape[2:]
    rows = [as_pictures(pictures, (channels, height, width))[torch.arange(most) % len(pictures)] for pictures in shown]
    pixels = torch.stack(rows)  # [k, most, C, H, W]
    images = met.preprocessing.to_model(pixels.flatten(0, 1)).view_as(pixels)
    targets = met.targets
    if targets.shape[1] > 1:
        own = torch.eye(len(targets), dtype=targets.dtype).unsqueeze(1).expand(-1, most, -1)
        targets = torch.cat([targets, own], dim=1)
    return replace(met, images=torch.cat([met.images, images], dim=1), targets=targets)
