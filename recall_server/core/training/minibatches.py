"""Minibatches of a classifier's training: some rows of every query."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor

from recall_server.core.memory import LazyItems
from recall_server.core.training.augmentation import AUGMENTATIONS, augment
from recall_server.core.training.retraining import Retraining


def minibatches(
    images: Tensor | LazyItems, targets: Tensor, retraining: Retraining, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless minibatches [q * n, C, H, W] with targets [q * n, k], n distinct rows of each of q queries.

    `targets` are [q, r, k], or [q, 1, k] where all images of a query share one. Rows are drawn, or follow each other,
    as the schedule says.
    """
    queries, rows = images.shape[:2]
    drawn = min(retraining.rows_per_class, rows)
    kinds = AUGMENTATIONS[retraining.augmentation]
    shared = targets.shape[1] == 1
    repeated = targets.expand(-1, drawn, -1).flatten(0, 1) if shared else targets  # [q * n, k]
    query = torch.arange(queries, device=images.device).unsqueeze(1)
    for done in count():
        if retraining.order == "sequence":
            chosen = rows_in_sequence(done, rows, drawn).expand(queries, drawn)
        else:
            chosen = torch.rand(queries, rows, generator=generator).argsort(dim=1)[:, :drawn]  # [q, n]
        index = query, chosen.to(images.device, non_blocking=True)
        yield (
            augment(images[index].flatten(0, 1), kinds, generator),
            repeated if shared else targets[index].flatten(0, 1),
        )


def rows_in_sequence(done: int, rows: int, count: int) -> Tensor:
    """The numbers [count] of the rows that the step after `done` steps takes of every query, out of `rows`."""
    return (done * count + torch.arange(count)) % rows
