"""Reduced data sets for runs on a CPU: smaller pictures, or one class of each group."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch

from benchmarks.across import some_classes
from recall_server.recall.training_set import crop_and_resize
from trainer.data.datasets import ImageDataset, Split


def shrunk(data: ImageDataset, size: int) -> ImageDataset:
    """The pictures resized to `size` x `size`, as a data set with its own name and digest."""

    def smaller(split: Split) -> Split:
        pixels = crop_and_resize(split.pixels(), (split.images.shape[1], size, size))
        return replace(split, images=(255 * pixels).round().clamp(0, 255).to(torch.uint8))

    return replace(
        data.with_each_split(smaller),
        name=f"{data.name}-{size}px",
        digest=hashlib.sha256(f"{data.digest} at {size}".encode()).hexdigest(),
    )


def one_of_each_group(data: ImageDataset) -> ImageDataset:
    """The first class of every group, as a data set with its own name and digest and without groups."""
    if not data.groups:
        raise ValueError(f"{data.name} has no groups of classes")
    first = [data.classes.index(members[0]) for members in data.groups.values()]
    return replace(
        some_classes(data, first),
        name=f"{data.name}-{len(first)}",
        digest=hashlib.sha256(f"{data.digest} {first}".encode()).hexdigest(),
    )
