"""The Gaussian process kernel of infinitely wide convolutional networks, estimated by random ones (Loo et al., 2022).

Networks without normalisation are drawn for every loss: convolutions with weights of variance 2 / fan-in and biases of
variance 0.01, rectifiers, average pooling. With all their M features phi, k(x, y) = 2 <phi(x), phi(y)> / M + 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, relu

from trainer.objectives.base import State
from trainer.objectives.kernel.base import AbstractKernel, Products

WEIGHT_VARIANCE, BIAS_VARIANCE = 2.0, 0.01
NUMBERS_AT_ONCE = 2**24  # in the first layer of real images, which are seen without a graph

Layers = list[tuple[Tensor, Tensor]]  # weights [filters, channels, 3, 3] and biases [filters], scaled already


@final
@dataclass(frozen=True)
class RandomFeatures(AbstractKernel):
    """`networks` of `depth` layers with `filters` each. Items are images."""

    networks: int
    filters: int
    depth: int = 3

    def products(self, recalled: Tensor, real: Tensor, state: State, generator: torch.Generator) -> Products:
        support = recalled.new_zeros(len(recalled), len(recalled), dtype=torch.float64)
        cross = real.new_zeros(len(real), len(recalled))
        count = 0
        for _ in range(self.networks):
            layers = self.draw(recalled, generator)
            own, theirs = self.features(layers, recalled), self._without_graph(layers, real)
            support = support + own.double() @ own.double().T
            cross = cross + theirs @ own.T
            count += own.shape[1]
        scale = WEIGHT_VARIANCE / count
        return Products(scale * support + BIAS_VARIANCE, scale * cross + BIAS_VARIANCE)

    def draw(self, items: Tensor, generator: torch.Generator) -> Layers:
        """One network for items [n, C, H, W], of their type and on their device."""
        layers, channels = [], items.shape[1]
        for _ in range(self.depth):
            weights = torch.randn(self.filters, channels, 3, 3, generator=generator)
            biases = torch.randn(self.filters, generator=generator)
            scaled = weights * (WEIGHT_VARIANCE / (9 * channels)) ** 0.5, biases * BIAS_VARIANCE**0.5
            layers.append((scaled[0].to(items), scaled[1].to(items)))
            channels = self.filters
        return layers

    def features(self, layers: Layers, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> [N, filters * h * w]."""
        for weights, biases in layers:
            images = avg_pool2d(relu(conv2d(images, weights, biases, padding=1)), 2)
        return images.flatten(1)

    @torch.no_grad()
    def _without_graph(self, layers: Layers, images: Tensor) -> Tensor:
        at_once = max(1, NUMBERS_AT_ONCE // (self.filters * images.shape[2] * images.shape[3]))
        return torch.cat([self.features(layers, part) for part in torch.split(images, at_once)])
