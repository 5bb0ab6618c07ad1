"""Paddings as numbers, in place of `auto_pad`, in an ONNX graph whose pictures have one size.

The default engine of OpenCV 5 computes SAME_UPPER wrongly; every runtime reads numbers correctly.
"""

from __future__ import annotations

from typing import Final

import onnx
from onnx import helper, shape_inference

AUTOMATIC: Final = {"SAME_UPPER": False, "SAME_LOWER": True}  # whether the larger half comes first


def write_paddings(model: onnx.ModelProto) -> None:
    """Replace, in place, `auto_pad` of every convolution and pooling whose input has a known size.

    They have no dilations: onnxruntime refuses those beside `auto_pad`.
    """
    inferred = shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim[2:]]
        for value in (*inferred.value_info, *inferred.input)
    }
    for node in model.graph.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        automatic, kernel = attributes.get("auto_pad", b"").decode(), attributes.get("kernel_shape")
        size = sizes.get(node.input[0], []) if node.input else []
        if automatic not in AUTOMATIC or kernel is None or len(size) != len(kernel) or not all(size):
            continue
        strides = attributes.get("strides", [1] * len(kernel))
        begin, end = [], []
        for sides in zip(size, kernel, strides, strict=True):
            total = _padding(*sides)
            smaller = total // 2
            larger = total - smaller
            begin.append(larger if AUTOMATIC[automatic] else smaller)
            end.append(smaller if AUTOMATIC[automatic] else larger)
        kept = [each for each in node.attribute if each.name != "auto_pad"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("pads", [*begin, *end])])


def _padding(size: int, kernel: int, stride: int) -> int:
    """Of both ends together, so that there are ceil(size / stride) outputs."""
    outputs = -(-size // stride)
    return max(0, (outputs - 1) * stride + kernel - size)
