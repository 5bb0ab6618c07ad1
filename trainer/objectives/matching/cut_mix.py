"""CutMix (Yun et al., 2019): a rectangle of every image comes from another one, and targets are mixed as the areas."""

from __future__ import annotations

import torch
from torch import Tensor


def cut_mix(images: Tensor, targets: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images [N, C, H, W] and targets [N, k] of a minibatch, mixed with probability `share`.

    All images have the same rectangle. Its area is uniformly distributed before it is cut off at the borders.
    """
    chance, area = torch.rand(2, generator=generator).tolist()
    if chance >= share:
        return images, targets
    order = torch.randperm(len(images), generator=generator).to(images.device)
    inside = torch.ones(images.shape[2:], dtype=torch.bool)
    for dimension, size in enumerate(images.shape[2:]):
        side = int(size * area**0.5)
        first = int(torch.randint(size, (), generator=generator)) - side // 2
        place = torch.arange(size)
        within = (place >= first) & (place < first + side)
        inside &= within.unsqueeze(1 - dimension)
    mixed = torch.where(inside.to(images.device), images[order], images)
    taken = float(inside.float().mean())
    return mixed, (1 - taken) * targets + taken * targets[order]
