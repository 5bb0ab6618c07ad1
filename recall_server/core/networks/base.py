"""The interface of a network: a pure function of explicit parameters.

Without hidden state, a network can be differentiated through its own training, compiled as a whole, and initialised
from a seed without touching global random state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

Parameters = dict[str, Tensor]
CLASSIFIER: Final = "classifier"  # the name of the last layer in every architecture


@dataclass(frozen=True, kw_only=True)
class AbstractNetwork(ABC):
    """An architecture for images [channels, height, width] and a number of classes; holds no weights.

    Images are shrunk by the factor `shrink`, and padded with zeros where poolings would otherwise drop a row.
    `convolution_dtype` is the dtype that convolutions are computed in (None: that of the images), an execution detail
    that changes neither the parameters nor their precision. A network without convolutions ignores it.
    """

    channels: int
    height: int
    width: int
    classes: int
    shrink: int = 1
    convolution_dtype: torch.dtype | None = None

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter, in the order in which `initialise` draws them."""

    @abstractmethod
    def features(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> inputs [N, F] of the last layer, which is linear and named "classifier"."""

    @abstractmethod
    def logits(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, classes]."""

    @property
    def downsampled_size(self) -> tuple[int, int]:
        """Height and width of shrunk images; incomplete windows at the right and bottom are dropped."""
        return self.height // self.shrink, self.width // self.shrink

    def padded_size(self) -> tuple[int, int]:
        """Height and width of shrunk and padded images, the input of the first layer."""
        return self.downsampled_size

    def round_up(self, unit: int) -> tuple[int, int]:
        """Height and width of shrunk images, rounded up to multiples of `unit`."""
        height, width = self.downsampled_size
        return -(-height // unit) * unit, -(-width // unit) * unit

    def padding(self) -> tuple[int, int, int, int]:
        """(left, right, top, bottom), in the order of `torch.nn.functional.pad`; the image stays centred."""
        (height, width), (inner_height, inner_width) = self.padded_size(), self.downsampled_size
        down, right = height - inner_height, width - inner_width
        return right // 2, right - right // 2, down // 2, down - down // 2

    def prepare(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> the input of the first layer: shrunk, then padded with zeros."""
        if self.shrink > 1:
            images = avg_pool2d(images, self.shrink)
        padding = self.padding()
        return pad(images, padding) if any(padding) else images

    def unprepare(self, gradient: Tensor) -> Tensor:
        """The transpose of `prepare`: a gradient for its result -> the gradient for the images [N, C, H, W]."""
        left, _, top, _ = self.padding()
        height, width = self.downsampled_size
        gradient = gradient[:, :, top : top + height, left : left + width]
        if self.shrink == 1:
            return gradient
        spread = interpolate(gradient, scale_factor=float(self.shrink), mode="nearest") / self.shrink**2
        return pad(spread, (0, self.width - width * self.shrink, 0, self.height - height * self.shrink))

    def require(self, smallest: int, what: str, advice: str) -> None:
        """Raise ValueError, with `advice`, if the shrunk images are smaller than `smallest` pixels on a side."""
        if min(self.downsampled_size) < smallest:
            shrunk = f", shrunk {self.shrink} times," if self.shrink > 1 else ""
            raise ValueError(f"images of {self.height}x{self.width}{shrunk} are too small for {what}; {advice}")

    def initialise(self, generator: torch.Generator) -> Parameters:
        """Fresh float32 parameters on the CPU, the same for the same seed on every device.

        Weights and biases are uniform in +-1/sqrt(fan-in), which is torch's default and what the paper's authors use.
        Scales of normalisation are one and shifts zero.
        """
        parameters: Parameters = {}
        bound = 1.0
        for name, shape in self.shapes().items():
            if name.endswith(".scale"):
                parameters[name] = torch.ones(shape)
            elif name.endswith(".shift"):
                parameters[name] = torch.zeros(shape)
            else:
                if name.endswith(".weight"):  # the bias that follows a weight shares its fan-in
                    bound = torch.Size(shape[1:]).numel() ** -0.5
                parameters[name] = torch.empty(shape).uniform_(-bound, bound, generator=generator)
        return parameters

    def initialise_from(self, learned: Parameters) -> Parameters:
        """Parameters from `learned`, the layers of a trained network but its last; the last layer is zero.

        Raises ValueError if `learned` are not exactly the layers of this network.
        """
        parameters = {}
        for name, shape in self.shapes().items():
            parameters[name] = torch.zeros(shape) if name.startswith(CLASSIFIER) else learned.get(name, torch.empty(0))
        found = {name: tuple(value.shape) for name, value in parameters.items()}
        if found != self.shapes() or not parameters.keys() >= learned.keys():
            raise ValueError("the pretrained layers do not match the network that would be initialised with them")
        return parameters
