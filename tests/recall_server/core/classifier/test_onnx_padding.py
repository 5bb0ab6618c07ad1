"""Written paddings compute what automatic ones do."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from recall_server.core.classifier.onnx_padding import write_paddings
from tests.tolerances import assert_close


def convolution(automatic: str, size: tuple[int, int], **attributes: Any) -> onnx.ModelProto:
    weight = np.random.default_rng(0).standard_normal((4, 2, 3, 5)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=automatic, kernel_shape=[3, 5], **attributes)
    graph = helper.make_graph(
        [node],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, "h", "w"])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": pixels})[0])


@pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("size", [(8, 8), (7, 10), (2, 9)])
@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 3]}])
def test_the_outputs_stay_the_same(automatic: str, size: tuple[int, int], attributes: dict[str, list[int]]) -> None:
    pixels = np.random.default_rng(1).standard_normal((2, 2, *size)).astype(np.float32)
    model = convolution(automatic, size, **attributes)
    expected = run(model, pixels)
    write_paddings(model)
    assert {each.name for each in model.graph.node[0].attribute} == {"kernel_shape", "pads", *attributes}
    assert_close(run(model, pixels), expected, terms=30)


def test_a_graph_whose_sizes_are_not_known_stays_as_it_is() -> None:
    model = convolution("SAME_UPPER", (8, 8))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    before = model.SerializeToString(deterministic=True)
    write_paddings(model)
    assert model.SerializeToString(deterministic=True) == before
