"""Linear: softmax regression, the head for the features of a pre-trained encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.networks.base import AbstractNetwork, Parameters
from recall_server.core.networks.layers import linear, linear_shapes


@final
@dataclass(frozen=True, kw_only=True)
class Linear(AbstractNetwork):
    """One linear layer. Its loss is convex, so it starts from zero, independent of the generator."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return linear_shapes("classifier", self.channels * self.height * self.width, self.classes)

    def initialise(self, generator: torch.Generator) -> Parameters:
        return {name: torch.zeros(shape) for name, shape in self.shapes().items()}

    def features(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> inputs of the layer [N, C * H * W]."""
        return images.flatten(1)

    def logits(self, parameters: Parameters, images: Tensor) -> Tensor:
        return linear(parameters, "classifier", self.features(parameters, images))
