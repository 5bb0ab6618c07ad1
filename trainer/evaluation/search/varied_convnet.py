"""ConvNets with other norms, activations and poolings, as in the space of Zhao et al. (ICLR 2021, section 4.2).

They are trained to be compared, and are not for bundles: classifiers have instance norm, ReLU and average pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self, final

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import avg_pool2d, group_norm, leaky_relu, max_pool2d

from recall_server.core.networks import AbstractNetwork, Parameters, layers

Norm = Literal["none", "layer", "instance", "group"]
Activation = Literal["sigmoid", "relu", "leaky-relu"]
Pooling = Literal["none", "max", "average"]

GROUPS: Final[Mapping[Norm, Callable[[int], int]]] = {  # of channels that are normalised together, among so many
    "layer": lambda channels: 1,
    "instance": lambda channels: channels,
    "group": lambda channels: 4,
}
ACTIVATIONS: Final[Mapping[Activation, Callable[[Tensor], Tensor]]] = {
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky-relu": leaky_relu,
}
POOLINGS: Final[Mapping[Pooling, Callable[[Tensor], Tensor]]] = {
    "none": lambda images: images,
    "max": lambda images: max_pool2d(images, 2),
    "average": lambda images: avg_pool2d(images, 2),
}


class VariedSpec(BaseModel):
    """The settings of a VariedConvNet. Written as "convnet:filters=8,depth=2,norm=none,activation=relu,pooling=max"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filters: Annotated[int, Field(ge=1, le=1024)] = 128
    depth: Annotated[int, Field(ge=1, le=8)] = 3
    norm: Norm = "instance"
    activation: Activation = "relu"
    pooling: Pooling = "average"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`; what is left out has its default. Raises ValueError."""
        _, _, settings = text.partition(":")
        return cls.model_validate(dict(each.partition("=")[::2] for each in filter(None, settings.split(","))))

    def build(self, image_shape: tuple[int, int, int], classes: int) -> VariedConvNet:
        """The network for images (channels, height, width). Raises ValueError for images that are too small."""
        channels, height, width = image_shape
        return VariedConvNet(channels=channels, height=height, width=width, classes=classes, **dict(self))

    def __str__(self) -> str:
        return "convnet:" + ",".join(f"{name}={value}" for name, value in self)


@final
@dataclass(frozen=True, kw_only=True)
class VariedConvNet(AbstractNetwork):
    """`depth` blocks of 3x3 convolution with `filters` channels, norm, activation and 2x2 pooling.

    Where there are poolings, images are padded with zeros to the next multiple of 2^depth, as for a ConvNet.
    """

    filters: int
    depth: int
    norm: Norm
    activation: Activation
    pooling: Pooling

    def __post_init__(self) -> None:
        if self.pooling != "none":
            self.require(2**self.depth, f"{self.depth} poolings", "use a smaller depth")
        if self.norm == "group" and self.filters % 4:
            raise ValueError(f"group norm has 4 groups, which do not divide {self.filters} filters")

    def padded_size(self) -> tuple[int, int]:
        return self.downsampled_size if self.pooling == "none" else self.round_up(2**self.depth)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        channels = self.channels
        for block in range(self.depth):
            shapes |= layers.convolution_shapes(f"block{block}.filters", channels, self.filters, 3)
            if self.norm != "none":
                shapes |= layers.normalisation_shapes(f"block{block}.norm", self.filters)
            channels = self.filters
        height, width = (side if self.pooling == "none" else side >> self.depth for side in self.padded_size())
        return shapes | layers.linear_shapes("classifier", self.filters * height * width, self.classes)

    def features(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> inputs of the last linear layer [N, filters * h * w]."""
        images = self.prepare(images)
        for block in range(self.depth):
            images = layers.convolution(parameters, f"block{block}.filters", images, padding=1)
            if self.norm != "none":
                affine = parameters[f"block{block}.norm.scale"], parameters[f"block{block}.norm.shift"]
                images = group_norm(images, GROUPS[self.norm](self.filters), *affine)
            images = POOLINGS[self.pooling](ACTIVATIONS[self.activation](images))
        return images.flatten(1)

    def logits(self, parameters: Parameters, images: Tensor) -> Tensor:
        return layers.linear(parameters, "classifier", self.features(parameters, images))
