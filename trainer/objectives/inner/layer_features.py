"""What the blocks of a network make of images: features of every layer, once differentiable in the images.

Matching of distributions compares them. Parameters need no gradient. The forward pass of a ConvNet and its reverse are
those of the hand-written step, without a graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recall_server.core.networks import AbstractNetwork, ConvNet, Parameters
from recall_server.core.networks.kernels import AbstractBlocks, TorchBlocks, native_blocks
from recall_server.core.training.descent import images_at_once
from recall_server.core.training.manual_backprop import ConvNetByHand, norm_of, weight_name

Layers = tuple[Tensor, ...]


class AbstractLayerFeatures(ABC):
    """Features of a network; large batches go through it in parts of `multiple` times the usual size."""

    network: AbstractNetwork
    multiple: ClassVar[int] = 4  # takes an eighth less time than 1

    def __call__(self, parameters: Parameters, images: Tensor) -> Layers:
        """Images [N, C, H, W] -> features [N, F] of each layer, the last ones the inputs of the classifier."""
        parts = torch.split(images, self.multiple * images_at_once(self.network, images.device))
        layers = zip(*(self.layers(parameters, part) for part in parts), strict=True)
        return tuple(torch.cat(layer) if len(layer) > 1 else layer[0] for layer in layers)

    @abstractmethod
    def layers(self, parameters: Parameters, images: Tensor) -> Layers:
        """The features of a part."""


@final
@dataclass(frozen=True)
class LastFeatures(AbstractLayerFeatures):
    """The inputs of the classifier of any network, one layer."""

    network: AbstractNetwork

    def layers(self, parameters: Parameters, images: Tensor) -> Layers:
        return (self.network.features(parameters, images),)


@final
@dataclass(frozen=True)
class ConvNetFeatures(AbstractLayerFeatures):
    """The outputs of each block of a ConvNet, with the operations of `blocks`. Parameters get no gradient."""

    network: ConvNet
    blocks: AbstractBlocks

    def layers(self, parameters: Parameters, images: Tensor) -> Layers:
        found: Layers = _Layers.apply(ConvNetByHand(self.network, self.blocks), parameters, images)
        return found


def layer_features(network: AbstractNetwork, device: torch.device) -> AbstractLayerFeatures:
    """Features by hand for a ConvNet, derived ones of the last layer alone for other networks."""
    if not isinstance(network, ConvNet):
        return LastFeatures(network)
    return ConvNetFeatures(network, (native_blocks() if device.type == "cpu" else None) or TorchBlocks())


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, net: ConvNetByHand, parameters: Parameters, images: Tensor) -> Layers:
        ctx.net, ctx.parameters, ctx.kept = net, parameters, []
        y, layers = net.network.prepare(images), []
        for block in range(net.network.depth):
            convolution = net.convolution(y)
            y, value = net.blocks.forward(convolution.apply(parameters[weight_name(block)]), norm_of(parameters, block))
            if ctx.needs_input_grad[2]:
                ctx.kept.append((convolution, value, y.shape))
            layers.append(y.flatten(1).to(images.dtype))
        return tuple(layers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gy = torch.zeros((), dtype=ctx.kept[-1][1].a.dtype)
        for block in reversed(range(len(ctx.kept))):
            convolution, value, shape = ctx.kept[block]
            gy = gradients[block].reshape(shape).to(gy.dtype) + gy
            ga, _, _ = ctx.net.blocks.backward(value, gy)
            gy = convolution.for_input(ga, ctx.parameters[weight_name(block)])
        return None, None, ctx.net.network.unprepare(gy).to(gradients[0].dtype)
