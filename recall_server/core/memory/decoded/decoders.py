"""Small convolutional decoders: three convolutions, with the size doubled after each of the first two.

    image = last(up(leaky(second(up(leaky(first(code)))))))     leaky(x) = max(x, x / 10),  up: each pixel becomes 2x2

All are 3x3 convolutions with zero padding and biases. The sides of a code are a quarter of those of the image, rounded
up. Decoded images are cropped at the right and bottom edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, final

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, leaky_relu

LAYERS: Final = ("first", "second", "last")
REDUCTION: Final = 4  # the side of an image divided by that of its code
SLOPE: Final = 0.1  # of leaky rectifiers, below zero


@final
@dataclass(frozen=True)
class DecoderShape:
    """`count` decoders from `code` channels through `filters` to `channels` of an image."""

    count: int
    code: int
    filters: int
    channels: int

    @property
    def numbers(self) -> int:
        """The number of weights and biases of all decoders."""
        inner = 9 * self.filters * (self.code + self.filters + self.channels) + 2 * self.filters + self.channels
        return self.count * inner


@final
@dataclass(frozen=True, eq=False)
class Decoders:
    """K decoders: `weights` and `biases` of each layer, [K, out, in, 3, 3] and [K, out]."""

    weights: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        inputs, count = None, None
        for name in LAYERS:
            weight, bias = self.weights[name], self.biases[name]
            fits = weight.ndim == 5 and tuple(weight.shape[3:]) == (3, 3) and bias.shape == weight.shape[:2]
            if not fits or inputs not in {None, weight.shape[2]} or count not in {None, weight.shape[0]}:
                raise ValueError(
                    f"the decoder layer {name} needs weights [decoders, outputs, inputs, 3, 3] and biases [decoders, "
                    f"outputs] that fit the layer before, not {list(weight.shape)} and {list(bias.shape)}"
                )
            count, inputs = weight.shape[0], weight.shape[1]

    @property
    def shape(self) -> DecoderShape:
        first = self.weights["first"]
        return DecoderShape(first.shape[0], first.shape[2], first.shape[1], self.weights["last"].shape[1])

    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors, by their documented names."""
        stored = {f"decoders.{name}.weight": self.weights[name] for name in LAYERS}
        return stored | {f"decoders.{name}.bias": self.biases[name] for name in LAYERS}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Raises KeyError for a missing tensor, and ValueError for shapes that do not fit."""
        weights = {name: tensors[f"decoders.{name}.weight"] for name in LAYERS}
        return cls(weights, {name: tensors[f"decoders.{name}.bias"] for name in LAYERS})

    def numbers_at_once(self, height: int, width: int) -> int:
        """The number of numbers in the widest layer while one image of this size is decoded."""
        rows, columns = (REDUCTION * side for side in code_size(height, width))
        return max(self.shape.filters, self.shape.channels) * rows * columns

    def __call__(self, codes: Tensor, height: int, width: int) -> Tensor:
        """Images [n, K, C, height, width] of codes [n, c, h, w], one per decoder."""
        decoded = [self._by(number, codes)[..., :height, :width] for number in range(self.shape.count)]
        return torch.stack(decoded, dim=1)

    def _by(self, number: int, images: Tensor) -> Tensor:
        for name in LAYERS:
            images = conv2d(images, self.weights[name][number], self.biases[name][number], padding=1)
            if name != LAYERS[-1]:
                images = interpolate(leaky_relu(images, SLOPE), scale_factor=2.0, mode="nearest")
        return images


def code_size(height: int, width: int) -> tuple[int, int]:
    """The height and width of a code for images of this size."""
    return -(-height // REDUCTION), -(-width // REDUCTION)


def initial_decoders(shape: DecoderShape, generator: torch.Generator) -> Decoders:
    """Random decoders that preserve the scale of their input (He et al., 2015), with zero biases."""
    sizes = {"first": (shape.filters, shape.code), "second": (shape.filters, shape.filters)}
    sizes["last"] = (shape.channels, shape.filters)
    weights = {
        name: torch.randn(shape.count, *size, 3, 3, generator=generator) * (2 / (9 * size[1] * (1 + SLOPE**2))) ** 0.5
        for name, size in sizes.items()
    }
    return Decoders(weights, {name: torch.zeros(shape.count, size[0]) for name, size in sizes.items()})
