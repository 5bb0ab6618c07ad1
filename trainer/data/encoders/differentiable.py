"""An encoder as a function of torch tensors, whose gradient reaches the pictures.

The operators of its ONNX graph are computed one after another. Weights are constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn.functional import conv2d, pad

SMALLEST: Final = 1e-12  # smaller numbers have a square root without a gradient

Attributes = Mapping[str, Any]


@final
class DifferentiableEncoder:
    """Pixels [N, 3, H, W] in 0..1 -> features [N, D], of an ONNX file in the form of `standard_form`.

    Raises ValueError for an operator that is not in OPERATORS.
    """

    def __init__(self, model: bytes, device: torch.device) -> None:
        graph = onnx.load_model_from_string(model).graph
        unknown = sorted({node.op_type for node in graph.node} - OPERATORS.keys())
        if unknown:
            raise ValueError(f"gradients through the ONNX operator {unknown[0]} are not known here")
        self._values = {each.name: _tensor(each).to(device) for each in graph.initializer}
        self._nodes = []
        for node in graph.node:
            attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            if all(name in self._values for name in node.input):  # weights that are stored in half precision
                self._values[node.output[0]] = self._compute(node, attributes, self._values)
            else:
                self._nodes.append((node, attributes))

    def __call__(self, pixels: Tensor) -> Tensor:
        values = self._values | {"images": pixels}
        for node, attributes in self._nodes:
            values[node.output[0]] = self._compute(node, attributes, values)
        return values["queries"]

    @staticmethod
    def _compute(node: onnx.NodeProto, attributes: Attributes, values: Mapping[str, Tensor]) -> Tensor:
        return OPERATORS[node.op_type](attributes, *(values[name] for name in node.input))


def _tensor(constant: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(constant).copy())


def _convolution(attributes: Attributes, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    strides = tuple(attributes.get("strides", (1, 1)))
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if attributes.get("auto_pad") == b"SAME_UPPER":
        (top, bottom), (left, right) = (
            _same_upper(size, kernel, stride)
            for size, kernel, stride in zip(value.shape[2:], weight.shape[2:], strides, strict=True)
        )
    return conv2d(
        pad(value, (left, right, top, bottom)), weight, bias, stride=strides, groups=attributes.get("group", 1)
    )


def _same_upper(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The padding before and after, with which ceil(size / stride) windows fit; the odd pixel comes after."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


OPERATORS: Final[Mapping[str, Callable[..., Tensor]]] = {
    "Abs": lambda _, x: x.abs(),
    "Add": lambda _, x, y: x + y,
    "Cast": lambda attributes, x: x.to(torch.float32) if attributes["to"] == onnx.TensorProto.FLOAT else x,
    "Clip": lambda _, x, low, high: x.clamp(low, high),
    "Conv": _convolution,
    "Div": lambda _, x, y: x / y,
    "Flatten": lambda attributes, x: x.flatten(attributes.get("axis", 1)),
    "GlobalAveragePool": lambda _, x: x.mean(dim=(2, 3), keepdim=True),
    "MatMul": lambda _, x, y: x @ y,
    "Mul": lambda _, x, y: x * y,
    "Relu": lambda _, x: x.relu(),
    "Sign": lambda _, x: x.sign(),
    "Sqrt": lambda _, x: x.clamp_min(SMALLEST).sqrt(),
    "Sub": lambda _, x, y: x - y,
}
