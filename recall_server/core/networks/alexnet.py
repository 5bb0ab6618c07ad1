"""AlexNet for small images (Krizhevsky et al., 2012), a cross-architecture network of the paper (appendix A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from recall_server.core.networks import layers
from recall_server.core.networks.base import AbstractNetwork, Parameters

# (filters, kernel, halve the image afterwards)
LAYERS = ((128, 5, True), (192, 5, True), (256, 3, False), (192, 3, False), (192, 3, True))
HALVINGS = 3


@final
@dataclass(frozen=True, kw_only=True)
class AlexNet(AbstractNetwork):
    """Five convolutions, each with instance norm and ReLU, three average poolings, and one linear layer.

    As in the authors' code, the poolings are averages and there is no dropout. Images are padded with zeros to the
    next multiple of 8: 28 pixels become 32, and the linear layer gets 192 x 4 x 4 features.
    """

    def __post_init__(self) -> None:
        self.require(2**HALVINGS, "an alexnet", f"use {2**HALVINGS}x{2**HALVINGS} or larger")

    def padded_size(self) -> tuple[int, int]:
        """The next multiples of 8."""
        return self.round_up(2**HALVINGS)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        channels = self.channels
        for layer, (filters, kernel, _) in enumerate(LAYERS):
            shapes |= layers.convolution_shapes(f"layer{layer}.convolution", channels, filters, kernel)
            shapes |= layers.normalisation_shapes(f"layer{layer}.norm", filters)
            channels = filters
        height, width = self.padded_size()
        features = channels * (height >> HALVINGS) * (width >> HALVINGS)
        return shapes | layers.linear_shapes("classifier", features, self.classes)

    def features(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> inputs of the last linear layer [N, 192 * h * w]."""
        images = self.prepare(images)
        for layer, (_, kernel, halve) in enumerate(LAYERS):
            name = f"layer{layer}.convolution"
            images = layers.convolution(parameters, name, images, padding=kernel // 2, dtype=self.convolution_dtype)
            images = layers.relu(layers.instance_norm(parameters, f"layer{layer}.norm", images))
            images = layers.average_pool(images) if halve else images
        return images.flatten(1)

    def logits(self, parameters: Parameters, images: Tensor) -> Tensor:
        return layers.linear(parameters, "classifier", self.features(parameters, images))
