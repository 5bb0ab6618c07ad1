"""The images that a bundle recalls, in pixel space and in the order that other tools expect."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.errors import InvalidRequest, UnsupportedQuery


@dataclass(frozen=True)
class RecalledImages:
    """`pixels` [k * n, C, H, W], float32 in pixel space and not clipped: n images of label 0, n of label 1, and so on.

    `learning_rate` is that of the schedule that the memory was distilled for.
    """

    labels: tuple[str, ...]
    pixels: Tensor
    learning_rate: float

    @property
    def per_label(self) -> int:
        return len(self.pixels) // len(self.labels)

    @property
    def targets(self) -> Tensor:
        """The label number of each image, int64 [k * n]."""
        return torch.arange(len(self.labels)).repeat_interleave(self.per_label)

    @property
    def outside(self) -> float:
        """The share of values outside 0..1, which eight bits cannot represent."""
        return float(((self.pixels < 0) | (self.pixels > 1)).float().mean())


def recall_images(bundle: MemoryBundle, per_label: int | None = None) -> RecalledImages:
    """The first `per_label` images of every label, or all of them.

    Raises UnsupportedQuery for a memory that is addressed by pictures or recalls features, and InvalidRequest for more
    images than the memory recalls.
    """
    if bundle.manifest.space == "features":
        raise UnsupportedQuery(
            f"the memory {bundle.manifest.name!r} recalls features, which are not exported as images"
        )
    rows = bundle.memory.rows
    count = rows if per_label is None else per_label
    if not 1 <= count <= rows:
        raise InvalidRequest(f"the bundle {bundle.manifest.name} recalls 1 to {rows} images of each label, not {count}")
    first = torch.arange(count).unsqueeze(0)
    with torch.inference_mode():
        parts = [bundle.recall_pixels(query.unsqueeze(0), first)[0] for query in bundle.label_queries(bundle.labels)]
    return RecalledImages(bundle.labels, torch.cat(parts), bundle.manifest.retraining.learning_rate)
