"""The structure of a network as data.

Every architecture is a chain of blocks after shrinking and zero padding, followed by one linear layer named
"classifier". `fused.py` computes the forward pass from this description and `onnx_export.py` exports it.
`network.logits` remains the definition; the tests check that all three agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from recall_server.core.networks.alexnet import LAYERS, AlexNet
from recall_server.core.networks.base import AbstractNetwork
from recall_server.core.networks.convnet import ConvNet
from recall_server.core.networks.linear import Linear
from recall_server.core.networks.mlp import MLP
from recall_server.core.networks.resnet import STAGES, ResNet

DESCRIBED: Final = (ConvNet, AlexNet, ResNet, MLP, Linear)  # the architectures that have a blueprint


@dataclass(frozen=True)
class Layer:
    """A convolution that keeps height and width, and the instance norm after it, by the names of their parameters."""

    convolution: str
    norm: str
    kernel: int = 3


@dataclass(frozen=True)
class ConvBlock:
    """Convolution, norm and ReLU, then 2x2 average pooling if `halve`."""

    layer: Layer
    halve: bool


@dataclass(frozen=True)
class Residual:
    """relu(second(relu(first(x))) + shortcut(x)).

    Without a `shortcut` layer the shortcut is the identity; with one, the sum is pooled 2x2 before the ReLU.
    """

    first: Layer
    second: Layer
    shortcut: Layer | None


@dataclass(frozen=True)
class Dense:
    """Flatten, then a linear layer, by the name of its parameters, and ReLU."""

    linear: str


@dataclass(frozen=True)
class Blueprint:
    """Images are shrunk, then padded by (left, right, top, bottom), then go through the blocks in order."""

    shrink: int
    padding: tuple[int, int, int, int]
    blocks: tuple[ConvBlock | Residual | Dense, ...]


@cache
def blueprint(network: AbstractNetwork) -> Blueprint:
    """The blueprint of a network. Raises TypeError for an unknown architecture."""
    if isinstance(network, ConvNet):
        plain = [ConvBlock(_layer(f"block{block}"), halve=True) for block in range(network.depth)]
        return Blueprint(network.shrink, network.padding(), tuple(plain))
    if isinstance(network, AlexNet):
        plain = [ConvBlock(_layer(f"layer{i}", kernel), halve) for i, (_, kernel, halve) in enumerate(LAYERS)]
        return Blueprint(network.shrink, network.padding(), tuple(plain))
    if isinstance(network, ResNet):
        stem = ConvBlock(Layer("stem", "stem.norm"), halve=False)
        residual = [_residual(f"stage{stage}", halve=stage > 0) for stage in range(len(STAGES))]
        return Blueprint(network.shrink, network.padding(), (stem, *residual))
    if isinstance(network, MLP):
        return Blueprint(
            network.shrink, network.padding(), tuple(Dense(f"layer{layer}") for layer in range(network.depth))
        )
    if isinstance(network, Linear):
        return Blueprint(network.shrink, network.padding(), ())
    raise TypeError(f"there is no blueprint of {type(network).__name__}")


def _layer(name: str, kernel: int = 3) -> Layer:
    return Layer(f"{name}.convolution", f"{name}.norm", kernel)


def _residual(name: str, *, halve: bool) -> Residual:
    first, second = (Layer(f"{name}.{part}", f"{name}.{part}.norm") for part in ("first", "second"))
    shortcut = Layer(f"{name}.shortcut", f"{name}.shortcut.norm", kernel=1) if halve else None
    return Residual(first, second, shortcut)
