"""The network architectures, as pure functions of explicit parameters; `build_network` makes one from its spec."""

from collections.abc import Callable

from recall_server.core.networks.alexnet import AlexNet
from recall_server.core.networks.base import AbstractNetwork, Parameters
from recall_server.core.networks.convnet import ConvNet
from recall_server.core.networks.linear import Linear
from recall_server.core.networks.mlp import MLP
from recall_server.core.networks.resnet import ResNet
from recall_server.core.networks.spec import NetworkSpec

__all__ = [
    "MLP",
    "AbstractNetwork",
    "AlexNet",
    "ConvNet",
    "Linear",
    "NetworkSpec",
    "Parameters",
    "ResNet",
    "build_network",
]

ARCHITECTURES: dict[str, Callable[..., AbstractNetwork]] = {
    "convnet": ConvNet,
    "resnet": ResNet,
    "alexnet": AlexNet,
    "mlp": MLP,
    "linear": Linear,
}


def build_network(spec: NetworkSpec, image_shape: tuple[int, int, int], classes: int) -> AbstractNetwork:
    """The network of `spec` for images of shape (channels, height, width) and `classes` classes.

    Raises ValueError if the architecture does not suit the images (too small for its poolings, for example).
    """
    channels, height, width = image_shape
    if min(channels, height, width, classes) < 1:
        raise ValueError(f"a network needs images and classes, not {channels}x{height}x{width} and {classes} classes")
    architecture = ARCHITECTURES[spec.architecture]
    return architecture(channels=channels, height=height, width=width, classes=classes, **spec.settings())
