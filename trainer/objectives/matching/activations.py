"""The activations of a ConvNet before each pooling, and its last features; once differentiable in images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor
from torch.nn.functional import conv2d, group_norm, relu

from recall_server.core.networks import AbstractNetwork, ConvNet, Parameters
from recall_server.core.networks.kernels import EPSILON
from recall_server.core.training.fused import avg_pool_2x2
from recall_server.core.training.manual_backprop import norm_of, weight_name
from trainer.objectives.inner.layer_features import AbstractLayerFeatures, Layers


@final
@dataclass(frozen=True)
class Activations(AbstractLayerFeatures):
    """Of each block [N, F_l], and the inputs of the classifier [N, F]. Convolutions have no bias: a norm cancels it."""

    network: ConvNet

    @classmethod
    def of(cls, network: AbstractNetwork) -> Activations:
        """ValueError for another architecture than a ConvNet."""
        if not isinstance(network, ConvNet):
            raise ValueError(f"the layers of a ConvNet are compared, not those of {type(network).__name__}")
        return cls(network)

    def layers(self, parameters: Parameters, images: Tensor) -> Layers:
        found, y = [], self.network.prepare(images)
        for block in range(self.network.depth):
            scale, shift = norm_of(parameters, block)
            y = group_norm(conv2d(y, parameters[weight_name(block)], padding=1), len(scale), scale, shift, eps=EPSILON)
            y = relu(y)
            found.append(y.flatten(1))
            y = avg_pool_2x2(y)
        return *found, y.flatten(1)
