"""Distances between the gradients of two losses for a network's weights; biases and norms take no part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import torch
from torch import Tensor

from recall_server.core.networks import Parameters

Distance = Literal["cosine", "squared", "absolute"]
Layers = Literal["weights", "convolutions"]
EPSILON = 1e-6  # added to products of norms


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """One minus the cosine, summed over the rows [outputs, all else] of a weight (Zhao et al., 2021, section 3.3)."""
    one, other = one.flatten(1), other.flatten(1)
    norms = torch.linalg.vector_norm(one, dim=1) * torch.linalg.vector_norm(other, dim=1)
    cosines: Tensor = (one * other).sum(dim=1) / (norms + EPSILON)
    return len(cosines) - cosines.sum()


def squared(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().sum()


def absolute(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs().sum()


DISTANCES: Final[dict[Distance, Callable[[Tensor, Tensor], Tensor]]] = {
    "cosine": cosine,
    "squared": squared,
    "absolute": absolute,
}


def distance(one: Parameters, other: Parameters, kind: Distance, layers: Layers) -> Tensor:
    """The distance, summed over the weights of all layers or of convolutions alone."""
    return torch.stack([DISTANCES[kind](one[name], other[name]) for name in _weights(one, layers)]).sum()


def _weights(gradient: Parameters, layers: Layers) -> list[str]:
    """Names of the weights that are compared; ValueError for a network without such."""
    names = [name for name, value in gradient.items() if value.ndim == 4 or (layers == "weights" and value.ndim == 2)]
    if not names:
        raise ValueError("the network has no convolutions whose gradients could be compared; use layers=weights")
    return names
