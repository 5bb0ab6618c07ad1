"""A ConvNet's logits, loss and gradient with hand-written backpropagation, without an autograd graph.

The operations of a block come from `recall_server.core.networks.kernels`, in torch or compiled. Fitting a classifier
and predicting with it use this on the CPU; distilling builds on it (`trainer.objectives.inner.convnet_step`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from recall_server.core.networks.base import AbstractNetwork, Parameters
from recall_server.core.networks.convnet import ConvNet
from recall_server.core.networks.kernels import AbstractBlocks, Affine, BlockValue, native_blocks
from recall_server.core.networks.kernels.convolutions import AbstractConvolution

WEIGHT, BIAS = "classifier.weight", "classifier.bias"


@final
@dataclass(frozen=True)
class ConvNetByHand:
    """A ConvNet whose blocks are computed, forwards and backwards, by `blocks`."""

    network: ConvNet
    blocks: AbstractBlocks

    def logits(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, classes]."""
        y = self.network.prepare(images)
        for block in range(self.network.depth):
            a = self.convolution(y).apply(parameters[weight_name(block)])
            y, _ = self.blocks.forward(a, norm_of(parameters, block))
        return y.flatten(1).to(images.dtype) @ parameters[WEIGHT].T + parameters[BIAS]

    def loss_and_gradient(
        self, parameters: Parameters, images: Tensor, targets: Tensor, count: int
    ) -> tuple[Tensor, Parameters]:
        """The sum of these images' cross-entropies divided by `count`, and its gradient.

        Biases before a norm have no gradient, because the norm cancels them.
        """
        layers: list[tuple[AbstractConvolution, BlockValue]] = []
        y = self.network.prepare(images)
        for block in range(self.network.depth):
            convolution = self.convolution(y)
            y, value = self.blocks.forward(
                convolution.apply(parameters[weight_name(block)]), norm_of(parameters, block)
            )
            layers.append((convolution, value))
        features = y.flatten(1).to(images.dtype)
        logarithms = log_softmax(features @ parameters[WEIGHT].T + parameters[BIAS], dim=1)
        for_logits = (logarithms.exp() * targets.sum(dim=1, keepdim=True) - targets) / count
        gradient = {WEIGHT: for_logits.T @ features, BIAS: for_logits.sum(dim=0)}
        gy = (for_logits @ parameters[WEIGHT]).view(y.shape).to(y.dtype)
        for block in reversed(range(self.network.depth)):
            convolution, value = layers[block]
            ga, for_scale, for_shift = self.blocks.backward(value, gy)
            gradient |= {f"block{block}.norm.scale": for_scale, f"block{block}.norm.shift": for_shift}
            gradient[weight_name(block)] = convolution.for_weight(ga, parameters[weight_name(block)])
            if block:
                gy = convolution.for_input(ga, parameters[weight_name(block)])
        return -(targets * logarithms).sum() / count, gradient

    def convolution(self, images: Tensor) -> AbstractConvolution:
        """The convolution of a block, prepared for its input images."""
        return self.blocks.convolution(images, self.network.filters, self.stored(images.dtype))

    def stored(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype that convolutions are computed in."""
        return self.network.convolution_dtype or dtype


@functools.cache
def by_hand(network: AbstractNetwork, device: torch.device) -> ConvNetByHand | None:
    """The network with compiled operations; None if there are none for this architecture or device."""
    if device.type != "cpu" or not isinstance(network, ConvNet):
        return None
    blocks = native_blocks()
    return None if blocks is None else ConvNetByHand(network, blocks)


def weight_name(block: int) -> str:
    return f"block{block}.convolution.weight"


def norm_of(parameters: Parameters, block: int) -> Affine:
    return Affine(parameters[f"block{block}.norm.scale"], parameters[f"block{block}.norm.shift"])
