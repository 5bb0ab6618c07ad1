"""A network's parameters as one vector, weights of convolutions in the order that channels-last kernels read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recall_server.core.networks import AbstractNetwork, Parameters


class Packing:
    """Where each parameter of a network lies in a vector [numbers]."""

    def __init__(self, network: AbstractNetwork) -> None:
        self._shapes = network.shapes()
        self._sizes = [torch.Size(shape).numel() for shape in self._shapes.values()]
        self.numbers = sum(self._sizes)

    def packed(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """A vector of its own, in float32 or better whatever the parameters are stored in."""
        pieces = (_channels_behind(parameters[name]).reshape(-1) for name in self._shapes)
        return torch.cat([piece.float() if piece.dtype == torch.bfloat16 else piece for piece in pieces])

    def unpacked(self, vector: Tensor) -> Parameters:
        """Views of the vector."""
        pieces = torch.split(vector, self._sizes)
        return {name: _view(piece, shape) for piece, (name, shape) in zip(pieces, self._shapes.items(), strict=True)}


def _channels_behind(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1) if weight.ndim == 4 else weight


def _view(piece: Tensor, shape: tuple[int, ...]) -> Tensor:
    if len(shape) != 4:
        return piece.view(shape)
    filters, channels, height, width = shape
    return piece.view(filters, height, width, channels).permute(0, 3, 1, 2)
