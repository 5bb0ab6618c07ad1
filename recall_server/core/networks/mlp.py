"""MLP, the network of continual-learning benchmarks on MNIST (Lopez-Paz and Ranzato, 2017; paper, appendix A.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from recall_server.core.networks.base import AbstractNetwork, Parameters
from recall_server.core.networks.layers import linear, linear_shapes, relu


@final
@dataclass(frozen=True, kw_only=True)
class MLP(AbstractNetwork):
    """`depth` hidden layers of `hidden` units with ReLU, on the flattened image; the paper uses 256 units."""

    hidden: int = 256
    depth: int = 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        inputs = self.channels * self.height * self.width
        for layer in range(self.depth):
            shapes |= linear_shapes(f"layer{layer}", inputs, self.hidden)
            inputs = self.hidden
        return shapes | linear_shapes("classifier", inputs, self.classes)

    def features(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> inputs of the last linear layer [N, hidden]."""
        features = images.flatten(1)
        for layer in range(self.depth):
            features = relu(linear(parameters, f"layer{layer}", features))
        return features

    def logits(self, parameters: Parameters, images: Tensor) -> Tensor:
        return linear(parameters, "classifier", self.features(parameters, images))
