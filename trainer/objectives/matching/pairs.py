"""Recalled and real items of one class after another, both augmented in the same way.

That is differentiable siamese augmentation (Zhao and Bilen, 2021): one random transform for all recalled and all real
items of a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from recall_server.core.memory import Recalled
from recall_server.core.training.augmentation import augment
from trainer.objectives.sampler import OuterBatch


class ClassPair(NamedTuple):
    """Recalled items [r, *shape] and real ones [n, *shape] of one class, with targets [r, k] and [n, k]."""

    items: Tensor
    targets: Tensor
    real: Tensor
    real_targets: Tensor


def class_pairs(
    batch: OuterBatch, augmentation: tuple[str, ...], generator: torch.Generator, *, rows: int = 0
) -> Iterator[ClassPair]:
    """The pairs of a batch, class after class; at most `rows` recalled items of each, drawn at random (0: all).

    A class without real items in the batch is left out.
    """
    for label in range(len(batch.recalled.items)):
        real = batch.targets[:, label] > 0
        if not bool(real.any()):
            continue
        items, targets = _some(batch.recalled, label, rows, generator)
        seed = int(torch.randint(2**62, (), generator=generator))
        alike = [
            augment(part, augmentation, torch.Generator().manual_seed(seed), alike=True)
            for part in (items, batch.items[real])
        ]
        yield ClassPair(alike[0], targets, alike[1], batch.targets[real])


def _some(recalled: Recalled, label: int, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    items = recalled.items[label]
    targets = recalled.targets[label].expand(len(items), -1)
    if not rows or rows >= len(items):
        return items, targets
    index = torch.randperm(len(items), generator=generator)[:rows].to(items.device)
    return items[index], targets[index]
