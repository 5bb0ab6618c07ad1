"""Adds the pictures of a request to the images that a classifier learns from.

What a memory recalls for pictures complements the pictures themselves, which are real data and cost nothing. Training
on both is better than on either; docs/tried.md has figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recall_server.recall.training_set import TrainingSet, crop_and_resize


def add_own_pictures(training_set: TrainingSet, pictures: Sequence[Tensor]) -> TrainingSet:
    """The training set with the pictures [n, c, h, w] of each query, in pixel space, as further rows.

    The pictures of a class with fewer than another one are repeated in turn, so that all classes have as many rows.
    """
    most = max(map(len, pictures))
    channels, height, width = training_set.images.shape[2:]
    rows = [crop_and_resize(each, (channels, height, width))[torch.arange(most) % len(each)] for each in pictures]
    pixels = torch.stack(rows)  # [k, most, C, H, W]
    images = training_set.preprocessing.to_model(pixels.flatten(0, 1)).view_as(pixels)
    targets = training_set.targets
    if targets.shape[1] > 1:
        own = torch.eye(len(targets), dtype=targets.dtype).unsqueeze(1).expand(-1, most, -1)
        targets = torch.cat([targets, own], dim=1)
    return replace(training_set, images=torch.cat([training_set.images, images], dim=1), targets=targets)
