"""Exports a network as an ONNX model that takes pictures in pixel space, with the preprocessing inside.

The graph is built from the network's blueprint with the helpers of the onnx package instead of by tracing. The result
is small and legible, has the same bytes for the same network, and needs no exporter at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from onnx import helper

from recall_server.core.classifier.onnx_graph import OnnxGraph, checked_bytes
from recall_server.core.networks import AbstractNetwork, Parameters
from recall_server.core.networks.base import CLASSIFIER
from recall_server.core.networks.blueprint import ConvBlock, Dense, Layer, Residual, blueprint
from recall_server.core.networks.kernels import EPSILON
from recall_server.core.preprocessing import ZCA, AbstractPreprocessing, Projected, Spectral, Standardise
from recall_server.core.preprocessing.spectral import cosines


def export_network(
    network: AbstractNetwork,
    parameters: Parameters,
    preprocessing: AbstractPreprocessing,
    image_shape: tuple[int, int, int],
    *,
    output: Literal["probabilities", "queries"],
    metadata: Mapping[str, str],
) -> bytes:
    """A checked ONNX model: "images" [N, C, H, W] float32 in pixel space -> `output` [N, classes] float32.

    "probabilities" are the softmax of the logits; "queries" are the logits. `metadata` becomes the model's
    metadata_props. The same arguments give the same bytes. Raises ValueError if the network or the preprocessing does
    not accept images of this shape.
    """
    if (network.channels, network.height, network.width) != image_shape or not preprocessing.fits(image_shape):
        raise ValueError(f"the network or the preprocessing does not accept images of shape {list(image_shape)}")
    graph = OnnxGraph()
    images = _preprocess(graph, preprocessing, image_shape)
    logits = _logits(graph, network, parameters, images)
    if output == "probabilities":
        graph.add("Softmax", [logits], output=output, axis=1)
    else:
        graph.add("Identity", [logits], output=output)
    model = graph.model("memory-recall", {"images": image_shape}, {output: network.classes})
    helper.set_model_props(model, dict(sorted(metadata.items())))
    return checked_bytes(model)


def _preprocess(graph: OnnxGraph, preprocessing: AbstractPreprocessing, image_shape: tuple[int, int, int]) -> str:
    """Add the nodes of `preprocessing.to_model`. Raises TypeError for an unknown preprocessing."""
    if isinstance(preprocessing, Standardise):
        return _standardise(graph, preprocessing)
    if isinstance(preprocessing, ZCA):
        return _whiten(graph, preprocessing, image_shape)
    if isinstance(preprocessing, Projected):
        return _project(graph, preprocessing, image_shape)
    if isinstance(preprocessing, Spectral):
        return _whiten_spectrally(graph, preprocessing)
    raise TypeError(f"there is no ONNX form of {type(preprocessing).__name__}")


def _standardise(graph: OnnxGraph, standard: Standardise) -> str:
    mean = graph.constant("preprocessing.mean", standard.mean.view(1, -1, 1, 1))
    deviation = graph.constant("preprocessing.deviation", standard.deviation.view(1, -1, 1, 1))
    return graph.add("Div", [graph.add("Sub", ["images", mean]), deviation])


def _project(graph: OnnxGraph, projected: Projected, image_shape: tuple[int, int, int]) -> str:
    """(1 - rest) * D^T D z + rest * z."""
    flat = graph.add("Flatten", [_standardise(graph, projected.standard)], axis=1)  # [N, d]
    directions = graph.constant("preprocessing.directions", projected.directions)
    along = graph.add("Gemm", [flat, directions], transB=1)  # [N, k]
    within = graph.add("Mul", [along, graph.constant("preprocessing.beyond_rest", 1 - projected.rest)])
    rest = graph.add("Mul", [flat, graph.constant("preprocessing.rest", projected.rest)])
    faded = graph.add("Gemm", [within, directions, rest])
    return graph.add("Reshape", [faded, graph.constant("preprocessing.shape", [-1, *image_shape])])


def _whiten(graph: OnnxGraph, zca: ZCA, image_shape: tuple[int, int, int]) -> str:
    """D^T ((g - rest) * D x0) + rest * x0, a form that multiplies by D only twice."""
    mean = graph.constant("preprocessing.mean", zca.mean.view(1, *image_shape))
    flat = graph.add("Flatten", [graph.add("Sub", ["images", mean])], axis=1)  # [N, d]
    directions = graph.constant("preprocessing.directions", zca.directions)
    along = graph.add("Gemm", [flat, directions], transB=1)  # [N, m]
    scaled = graph.add("Mul", [along, graph.constant("preprocessing.gains_beyond_rest", zca.gains - zca.rest)])
    rest = graph.add("Mul", [flat, graph.constant("preprocessing.rest", zca.rest)])
    whitened = graph.add("Gemm", [scaled, directions, rest])  # the third input is added
    return graph.add("Reshape", [whitened, graph.constant("preprocessing.shape", [-1, *image_shape])])


def _whiten_spectrally(graph: OnnxGraph, spectral: Spectral) -> str:
    """R^T F^-1(g * F(R x0)), with R as a 1x1 convolution and F as a matrix product from each side."""
    rotation, (_, height, width) = spectral.rotation[:, :, None, None], spectral.gains.shape
    mean = graph.constant("preprocessing.mean", spectral.mean.view(1, -1, 1, 1))
    forward = graph.constant("preprocessing.rotation", rotation)
    rows = graph.constant("preprocessing.row_cosines", cosines(height))
    columns = graph.constant("preprocessing.column_cosines", cosines(width).T)
    components = graph.add("Conv", [graph.add("Sub", ["images", mean]), forward], kernel_shape=[1, 1])
    coefficients = graph.add("MatMul", [graph.add("MatMul", [rows, components]), columns])
    gained = graph.add("Mul", [coefficients, graph.constant("preprocessing.gains", spectral.gains)])
    rows = graph.constant("preprocessing.row_cosines_back", cosines(height).T)
    columns = graph.constant("preprocessing.column_cosines_back", cosines(width))
    components = graph.add("MatMul", [graph.add("MatMul", [rows, gained]), columns])
    back = graph.constant("preprocessing.rotation_back", rotation.transpose(0, 1))
    return graph.add("Conv", [components, back], kernel_shape=[1, 1])


def _logits(graph: OnnxGraph, network: AbstractNetwork, parameters: Parameters, images: str) -> str:
    """Add the nodes of `network.logits`."""
    plan = blueprint(network)
    if plan.shrink > 1:
        images = _average(graph, images, plan.shrink)
    if any(plan.padding):
        left, right, top, bottom = plan.padding
        pads = graph.constant("padding", [0, 0, top, left, 0, 0, bottom, right])
        images = graph.add("Pad", [images, pads])
    for block in plan.blocks:
        match block:
            case ConvBlock(layer, halve):
                images = graph.add("Relu", [_layer(graph, parameters, layer, images)])
                images = _average(graph, images) if halve else images
            case Residual():
                images = _residual(graph, parameters, block, images)
            case Dense(name):
                images = graph.add("Relu", [_linear(graph, parameters, name, images)])
    return _linear(graph, parameters, CLASSIFIER, images)


def _linear(graph: OnnxGraph, parameters: Parameters, name: str, images: str) -> str:
    weight, bias = (graph.constant(f"{name}.{part}", parameters[f"{name}.{part}"]) for part in ("weight", "bias"))
    return graph.add("Gemm", [graph.add("Flatten", [images], axis=1), weight, bias], transB=1)


def _residual(graph: OnnxGraph, parameters: Parameters, block: Residual, images: str) -> str:
    inner = graph.add("Relu", [_layer(graph, parameters, block.first, images)])
    inner = _layer(graph, parameters, block.second, inner)
    if block.shortcut is None:
        return graph.add("Relu", [graph.add("Add", [inner, images])])
    both = graph.add("Add", [inner, _layer(graph, parameters, block.shortcut, images)])
    return graph.add("Relu", [_average(graph, both)])


def _layer(graph: OnnxGraph, parameters: Parameters, layer: Layer, images: str) -> str:
    """A convolution and its instance norm. The convolution's bias is left out, because the norm cancels it."""
    weight = graph.constant(f"{layer.convolution}.weight", parameters[f"{layer.convolution}.weight"])
    convolved = graph.add("Conv", [images, weight], kernel_shape=[layer.kernel] * 2, pads=[layer.kernel // 2] * 4)
    scale, shift = (graph.constant(name, parameters[name]) for name in (f"{layer.norm}.scale", f"{layer.norm}.shift"))
    return graph.add("InstanceNormalization", [convolved, scale, shift], epsilon=EPSILON)


def _average(graph: OnnxGraph, images: str, side: int = 2) -> str:
    """Average pooling over squares of `side` pixels; incomplete squares at the right and bottom are dropped."""
    return graph.add("AveragePool", [images], kernel_shape=[side, side], strides=[side, side])
