"""Real items of every class as a memory stores them, selected by their pixels or by features of a trained network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from recall_server.core.networks import AbstractNetwork
from recall_server.core.training.descent import images_at_once
from trainer.data.enlargement import Enlargement
from trainer.data.splits import Split
from trainer.starts.query_encoders.pretrained_encoder import pretrain_encoder
from trainer.starts.real.selection import at_random, herding, k_center
from trainer.starts.training_data import TrainingData

Selection = Literal["random", "herding", "k-center"]
Features = Callable[[Tensor], Tensor]  # items [N, C, H, W] in model space -> [N, p]

MOST = 5_000  # candidates of each class


def real_items(data: TrainingData, *, classes: int, rows: int, selection: Selection, features: Features) -> Tensor:
    """Items [classes, rows, C, H, W] in model space. A class with fewer than `rows` repeats its items."""
    chosen = []
    for label in range(classes):
        members = data.split.of_class(label, MOST)
        count = min(rows, len(members))
        if selection == "random":
            order = at_random(members.images, count, data.generator)
        else:
            parts = [features(data.items(chunk)) for chunk in members.chunks()]
            order = (herding if selection == "herding" else k_center)(torch.cat(parts), count)
        kept = members.select(order.repeat(-(-rows // count))[:rows])
        chosen.append(data.items(kept))
    return torch.stack(chosen)


def pixel_features(split: Split) -> Features:
    """Coordinates of images at half resolution, which are less noisy than pixels. Features are returned unchanged."""
    height, width = split.images.shape[2:]
    if height == width == 1:
        return lambda items: items.flatten(1)
    return Enlargement.from_half(height, width).coordinates


def network_features(network: AbstractNetwork, data: TrainingData, *, steps: int) -> Features:
    """Inputs of the last layer of a classifier of all classes that was trained for `steps` minibatches."""
    device, first = data.device, network.initialise(data.generator)
    parameters = pretrain_encoder(network, first, data, steps=steps, augmentation="none")
    placed = {name: value.to(device) for name, value in parameters.items()}

    @torch.no_grad()
    def features(items: Tensor) -> Tensor:
        parts = torch.split(items.to(device), images_at_once(network, device))
        return torch.cat([network.features(placed, part).cpu() for part in parts])

    return features
