"""EfficientNet-Lite0 without its classifier as an ONNX graph, from the weights of its PyTorch port.

Tan and Le, "EfficientNet" (2019), in the Lite form of TensorFlow's authors: no squeeze-and-excitation, ReLU6 for swish.
Batch norm is folded into the convolutions, so that the graph is convolutions, clips, additions and one mean. Padding is
"same" as TensorFlow computes it, which depends on the size of the pictures; `SAME_UPPER` says so at any size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from recall_server.core.classifier.onnx_graph import OnnxGraph

WIDTH: Final = 1280  # numbers of a picture's features
EPSILON: Final = 1e-3  # of batch norm
# Repeats, kernel, stride of the first, expansion, output channels of each stage (Tan and Le, table 1).
STAGES: Final = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

Weights = Mapping[str, NDArray[np.float32]]


def backbone(weights: Weights) -> onnx.ModelProto:
    """ "pixels" [N, 3, H, W], scaled as in training, -> "features" [N, 1280]; H and W are free.

    `weights` are named as in the PyTorch port. Raises KeyError for one that is missing.
    """
    graph = _Graph(weights)
    value = graph.convolution("pixels", "_conv_stem", "_bn0", kernel=3, stride=2)
    block, channels = 0, 32
    for repeats, kernel, first_stride, expansion, wider in STAGES:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            value = _inverted_residual(
                graph,
                value,
                f"_blocks.{block}.",
                kernel=kernel,
                stride=stride,
                expand=expansion > 1,
                skip=stride == 1 and channels == wider,
            )
            block, channels = block + 1, wider
    value = graph.convolution(value, "_conv_head", "_bn1", kernel=1)
    mean = graph.add("GlobalAveragePool", [value])
    graph.add("Flatten", [mean], output="features", axis=1)
    return graph.model("efficientnet-lite0", {"pixels": (3, "H", "W")}, {"features": WIDTH})


def _inverted_residual(
    graph: _Graph, value: str, name: str, *, kernel: int, stride: int, expand: bool, skip: bool
) -> str:
    """Expand by 1x1, convolve each channel alone, project by 1x1 without an activation."""
    inner, norm = value, 0 if expand else 1
    if expand:
        inner = graph.convolution(inner, f"{name}_expand_conv", f"{name}_bn0", kernel=1)
        norm = 1
    inner = graph.convolution(
        inner, f"{name}_depthwise_conv", f"{name}_bn{norm}", kernel=kernel, stride=stride, depthwise=True
    )
    inner = graph.convolution(inner, f"{name}_project_conv", f"{name}_bn{norm + 1}", kernel=1, activate=False)
    return graph.add("Add", [inner, value]) if skip else inner


class _Graph(OnnxGraph):
    """A graph with the layers of the network."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights = weights

    def convolution(
        self,
        value: str,
        name: str,
        norm: str,
        *,
        kernel: int,
        stride: int = 1,
        depthwise: bool = False,
        activate: bool = True,
    ) -> str:
        """A convolution with its batch norm folded in, and ReLU6."""
        scale = self.weights[f"{norm}.weight"] / np.sqrt(self.weights[f"{norm}.running_var"] + EPSILON)
        shift = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        weight = self.weights[f"{name}.weight"] * scale[:, None, None, None]
        inputs = [value, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", shift)]
        convolved = self.add(
            "Conv",
            inputs,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            auto_pad="SAME_UPPER",
            group=len(weight) if depthwise else 1,
        )
        if not activate:
            return convolved
        return self.add("Clip", [convolved, self.constant("clip.0", 0.0), self.constant("clip.6", 6.0)])
