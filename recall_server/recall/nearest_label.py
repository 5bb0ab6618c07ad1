"""Classify-then-recall: the label of a memory that the pictures of a class are nearest to.

This is the paper's baseline for addressing a memory by pictures. A label is represented by the mean of the images that
it recalls, a picture belongs to the nearest label, and a class to the label of most of its pictures. Distances are
measured in the feature space of a query encoder if there is one, and else in the memory's model space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import UnsupportedQuery
from recall_server.recall.training_set import crop_and_resize

Embed = Callable[[Tensor], Tensor]  # pixels [N, C, H, W] of the memory's size -> features [N, d]


def embedding(bundle: MemoryBundle, encoder: QueryEncoder | None) -> Embed:
    """The map to the space in which pictures are compared with what this memory recalls."""
    if encoder is None or encoder.image_shape[0] < bundle.memory.image_shape[0]:
        return lambda pixels: bundle.preprocessing.to_model(pixels).flatten(1)
    shape, encode = encoder.image_shape, encoder.encode
    return lambda pixels: torch.from_numpy(encode(crop_and_resize(pixels.clamp(0, 1), shape).contiguous().numpy()))


def nearest_labels(pixels: Mapping[str, Tensor], bundle: MemoryBundle, embed: Embed) -> dict[str, str]:
    """The label of each class, from the pixels [n, C, H, W] of its pictures in the memory's size.

    Raises UnsupportedQuery if two classes get the same label.
    """
    labels = bundle.manifest.labels
    with torch.no_grad():
        recalled = bundle.memory.items(bundle.label_queries(list(labels)))  # [C, r, ...]
        images = bundle.preprocessing.to_pixels(recalled.flatten(0, 1))
        means = embed(images).reshape(len(labels), recalled.shape[1], -1).mean(dim=1)  # [C, d]
        found = {name: _nearest(embed(each), means) for name, each in pixels.items()}
    taken: dict[int, str] = {}
    for name, position in found.items():
        if position in taken:
            raise UnsupportedQuery(
                f"the memory {bundle.manifest.name!r} classifies both {taken[position]!r} and {name!r} as "
                f"{labels[position]!r}; it cannot tell these classes apart",
                parameter=name,
            )
        taken[position] = name
    return {name: labels[position] for name, position in found.items()}


def _nearest(features: Tensor, means: Tensor) -> int:
    """The mean [d] that most features [n, d] are nearest to; among several, the one nearest to all of them."""
    distances = torch.cdist(features.double(), means.double())  # [n, C]
    nearest: list[int] = distances.argmin(dim=1).tolist()
    votes = Counter(nearest)
    return max(votes, key=lambda position: (votes[position], -float(distances[:, position].sum())))
