"""Pictures of classes that nobody names, taken for labels that a memory knows: classify, then recall.

The paper's rival to addressing a memory by pictures. A label is the mean of all that it recalls; a picture is taken for
the nearest, and a class for what most of its pictures are. Near is meant in the space of a query encoder where there is
one, else in the memory's own model space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import UnsupportedQuery
from recall_server.recall.training_set import as_pictures

Embed = Callable[[Tensor], Tensor]  # pixels [N, C, H, W] of the memory's size -> features [N, d]


def embedding(bundle: MemoryBundle, encoder: QueryEncoder | None) -> Embed:
    """The space in which pictures and what this memory recalls are compared."""
    if encoder is None or encoder.image_shape[0] < bundle.memory.image_shape[0]:
        return lambda pixels: bundle.preprocessing.to_model(pixels).flatten(1)
    shape, encode = encoder.image_shape, encoder.encode
    return lambda pixels: torch.from_numpy(encode(as_pictures(pixels.clamp(0, 1), shape).contiguous().numpy()))


def nearest_labels(shown: Mapping[str, Tensor], bundle: MemoryBundle, embed: Embed) -> dict[str, str]:
    """The label that each class is taken for, by pixels [n, C, H, W] of its pictures, in the memory's size.

    Raises UnsupportedQuery where two classes are taken for the same label.
    """
    labels = bundle.manifest.labels
    with torch.no_grad():
        recalled = bundle.memory.items(bundle.label_queries(list(labels)))  # [C, r, ...]
        pixels = bundle.preprocessing.to_pixels(recalled.flatten(0, 1))
        means = embed(pixels).reshape(len(labels), recalled.shape[1], -1).mean(dim=1)  # [C, d]
        found = {name: _nearest(embed(each), means) for name, each in shown.items()}
    taken: dict[int, str] = {}
    for name, position in found.items():
        if position in taken:
            raise UnsupportedQuery(
                f"the memory {bundle.manifest.name!r} takes both {taken[position]!r} and {name!r} for "
                f"{labels[position]!r}; it does not know these classes apart",
                parameter=name,
            )
        taken[position] = name
    return {name: labels[position] for name, position in found.items()}


def _nearest(features: Tensor, means: Tensor) -> int:
    """What most of a class's pictures are nearest to; among several, the nearest to them all."""
    distances = torch.cdist(features.double(), means.double())  # [n, C]
    nearest: list[int] = distances.argmin(dim=1).tolist()
    votes = Counter(nearest)
    return max(votes, key=lambda position: (votes[position], -float(distances[:, position].sum())))
