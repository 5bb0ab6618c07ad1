"""A ConvNet's logits, loss and gradient with hand-written backpropagation, without an autograd graph.

The operations of a block come from `recall_server.core.networks.kernels`, in torch or compiled. Fitting a classifier
and predicting with it use this on the CPU; distilling builds on it (`trainer.objectives.inner.steps.convnet_step`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import log_softmax

from recall_server.core.networks.base import AbstractNetwork, Parameters
from recall_server.core.networks.convnet import ConvNet
from recall_server.core.networks.kernels import AbstractBlocks, Affine, BlockValue, native_blocks
from recall_server.core.networks.kernels.convolutions import AbstractConvolution

WEIGHT, BIAS = "classifier.weight", "classifier.bias"
Layers = list[tuple[AbstractConvolution, BlockValue]]  # of the blocks, what their backward pass needs


@final
@dataclass(frozen=True)
class ConvNetByHand:
    """A ConvNet whose blocks are computed, forwards and backwards, by `blocks`."""

    network: ConvNet
    blocks: AbstractBlocks

    def logits(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, classes]."""
        blocks = [(parameters[weight_name(block)], norm_of(parameters, block)) for block in range(self.network.depth)]
        y = self.blocks.chain(self.network.prepare(images), blocks, self.stored(images.dtype))
        return y.flatten(1).to(images.dtype) @ parameters[WEIGHT].T + parameters[BIAS]

    def logits_of(self, parameters: Parameters, images: Tensor) -> Tensor:
        """The same, once differentiable in the images."""
        logits: Tensor = _Logits.apply(self, parameters, images)
        return logits

    def loss_and_gradient(
        self, parameters: Parameters, images: Tensor, targets: Tensor, count: int
    ) -> tuple[Tensor, Parameters]:
        """The sum of these images' cross-entropies divided by `count`, and its gradient.

        Biases before a norm have no gradient, because the norm cancels them.
        """
        y, layers = self._forward(parameters, images)
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

    def image_gradient(self, parameters: Parameters, layers: Layers, gy: Tensor) -> Tensor:
        """The gradient for the images [N, C, H, W], given what `_forward` kept and the gradient for its result."""
        for block in reversed(range(self.network.depth)):
            convolution, value = layers[block]
            ga, _, _ = self.blocks.backward(value, gy)
            gy = convolution.for_input(ga, parameters[weight_name(block)])
        return self.network.unprepare(gy)

    def _forward(self, parameters: Parameters, images: Tensor) -> tuple[Tensor, Layers]:
        """y after the last block, and what the backward pass needs of each block."""
        layers: Layers = []
        y = self.network.prepare(images)
        for block in range(self.network.depth):
            convolution = self.convolution(y)
            a = convolution.apply(parameters[weight_name(block)])
            y, value = self.blocks.forward(a, norm_of(parameters, block))
            layers.append((convolution, value))
        return y, layers

    def convolution(self, images: Tensor) -> AbstractConvolution:
        """The convolution of a block, prepared for its input images."""
        return self.blocks.convolution(images, self.network.filters, self.stored(images.dtype))

    def stored(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype that convolutions are computed in."""
        return self.network.convolution_dtype or dtype


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hand: ConvNetByHand, parameters: Parameters, images: Tensor) -> Tensor:
        y, layers = hand._forward(parameters, images)
        ctx.hand, ctx.parameters, ctx.layers, ctx.like, ctx.dtype = hand, parameters, layers, y, images.dtype
        return y.flatten(1).to(images.dtype) @ parameters[WEIGHT].T + parameters[BIAS]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        gy = (gradients[0] @ ctx.parameters[WEIGHT]).view(ctx.like.shape).to(ctx.like.dtype)
        return None, None, ctx.hand.image_gradient(ctx.parameters, ctx.layers, gy).to(ctx.dtype)


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
