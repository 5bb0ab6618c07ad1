"""ConvNet, the standard network of dataset distillation (Gidaris and Komodakis, 2018; paper, appendix A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from recall_server.core.networks import layers
from recall_server.core.networks.base import AbstractNetwork, Parameters


@final
@dataclass(frozen=True, kw_only=True)
class ConvNet(AbstractNetwork):
    """`depth` blocks of 3x3 convolution with `filters` channels, instance norm, ReLU and 2x2 average pooling.

    After shrinking, images are padded with zeros to the next multiple of 2^depth, so that no pooling drops a row:
    28 pixels become 32, as in the authors' code.
    """

    filters: int = 128
    depth: int = 3

    def __post_init__(self) -> None:
        depth = min(self.downsampled_size).bit_length() - 1
        advice = f"use a depth of {depth} or less" if depth > 0 else "use larger ones, or shrink them less"
        self.require(2**self.depth, f"{self.depth} poolings", advice)

    def padded_size(self) -> tuple[int, int]:
        """The next multiples of 2^depth."""
        return self.round_up(2**self.depth)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        channels = self.channels
        for block in range(self.depth):
            shapes |= layers.convolution_shapes(f"block{block}.convolution", channels, self.filters, 3)
            shapes |= layers.normalisation_shapes(f"block{block}.norm", self.filters)
            channels = self.filters
        height, width = self.padded_size()
        features = self.filters * (height >> self.depth) * (width >> self.depth)
        return shapes | layers.linear_shapes("classifier", features, self.classes)

    def features(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> inputs of the last linear layer [N, filters * h * w]."""
        images = self.prepare(images)
        for block in range(self.depth):
            name = f"block{block}.convolution"
            images = layers.convolution(parameters, name, images, padding=1, dtype=self.convolution_dtype)
            images = layers.average_pool(layers.relu(layers.instance_norm(parameters, f"block{block}.norm", images)))
        return images.flatten(1)

    def logits(self, parameters: Parameters, images: Tensor) -> Tensor:
        return layers.linear(parameters, "classifier", self.features(parameters, images))
