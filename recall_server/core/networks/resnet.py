"""ResNet-10, the residual network of the paper's cross-architecture table (He et al., 2016; paper, appendix A.1).

The paper calls it ResNet-12. This follows the authors' code, which has one basic block in each of four stages: ten
layers with weights besides the shortcuts. It is not the ResNet-12 of the few-shot literature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from recall_server.core.networks import layers
from recall_server.core.networks.base import AbstractNetwork, Parameters

STAGES = (64, 128, 256, 512)
UNIT = 2 ** (len(STAGES) - 1)
SMALLEST = 2 * UNIT


@final
@dataclass(frozen=True, kw_only=True)
class ResNet(AbstractNetwork):
    """A 3x3 stem and four basic blocks of 64 to 512 channels with instance norm; the last three halve the image.

    As in the authors' code, a block halves by average pooling at its end instead of a stride, and the features are
    flattened (512 x 4 x 4 for 32 pixels) instead of averaged. Images are padded with zeros to the next multiple of 8,
    so that 28 pixels become 32, and to 16 at least. Convolutions have no bias, because the norm after each of them
    would cancel it.
    """

    def __post_init__(self) -> None:
        self.require(UNIT, "a resnet", f"use {UNIT}x{UNIT} or larger")

    def padded_size(self) -> tuple[int, int]:
        """The next multiples of 8, and 16 or more.

        Of 8 pixels, the last block would average the whole of a normalised map: the same number for every image.
        """
        height, width = self.round_up(UNIT)
        return max(height, SMALLEST), max(width, SMALLEST)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = _convolution_norm_shapes("stem", self.channels, STAGES[0], 3)
        channels = STAGES[0]
        for stage, filters in enumerate(STAGES):
            shapes |= _convolution_norm_shapes(f"stage{stage}.first", channels, filters, 3)
            shapes |= _convolution_norm_shapes(f"stage{stage}.second", filters, filters, 3)
            if filters != channels:
                shapes |= _convolution_norm_shapes(f"stage{stage}.shortcut", channels, filters, 1)
            channels = filters
        height, width = self.padded_size()
        features = channels * (height // UNIT) * (width // UNIT)
        return shapes | layers.linear_shapes("classifier", features, self.classes)

    def features(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> inputs of the last linear layer [N, 512 * h * w]."""
        images = self.prepare(images)
        images = layers.relu(self._convolution_norm(parameters, "stem", images))
        images = self._basic_block(parameters, "stage0", images)
        for stage in range(1, len(STAGES)):
            images = self._halving_block(parameters, f"stage{stage}", images)
        return images.flatten(1)

    def logits(self, parameters: Parameters, images: Tensor) -> Tensor:
        return layers.linear(parameters, "classifier", self.features(parameters, images))

    def _basic_block(self, parameters: Parameters, name: str, images: Tensor) -> Tensor:
        """Two convolutions and an identity shortcut: [N, C, H, W] -> [N, C, H, W]."""
        inner = layers.relu(self._convolution_norm(parameters, f"{name}.first", images))
        return layers.relu(self._convolution_norm(parameters, f"{name}.second", inner) + images)

    def _halving_block(self, parameters: Parameters, name: str, images: Tensor) -> Tensor:
        """Two convolutions and a projection shortcut, summed and pooled: [N, C, H, W] -> [N, C', H/2, W/2]."""
        inner = layers.relu(self._convolution_norm(parameters, f"{name}.first", images))
        inner = self._convolution_norm(parameters, f"{name}.second", inner)
        return layers.relu(layers.average_pool(inner + self._convolution_norm(parameters, f"{name}.shortcut", images)))

    def _convolution_norm(self, parameters: Parameters, name: str, images: Tensor) -> Tensor:
        weight = parameters[f"{name}.weight"]
        dtype: torch.dtype = self.convolution_dtype or images.dtype
        images = conv2d(images.to(dtype), weight.to(dtype), padding=weight.shape[-1] // 2).to(images.dtype)
        return layers.instance_norm(parameters, f"{name}.norm", images)


def _convolution_norm_shapes(name: str, channels: int, filters: int, kernel: int) -> dict[str, tuple[int, ...]]:
    weight = {f"{name}.weight": (filters, channels, kernel, kernel)}
    return weight | layers.normalisation_shapes(f"{name}.norm", filters)
