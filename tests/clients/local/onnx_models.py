"""ONNX models for tests of local prediction."""

from __future__ import annotations

from onnx import TensorProto, helper


def brightness_model(
    *,
    labels: str | None = '["dark", "bright"]',
    output: str = "probabilities",
    rank: int = 4,
    familiar: bool = False,
) -> bytes:
    """A classifier of pictures 4x4 whose second class is as probable as the picture is bright, and as `familiar`."""
    shape = ["N", 1, 4, 4][:rank]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["bright"], axes=list(range(1, rank)), keepdims=0),
        helper.make_node("Unsqueeze", ["bright", "axis"], ["column"]),
        helper.make_node("Sub", ["one", "column"], ["other"]),
        helper.make_node("Concat", ["other", "column"], [output], axis=1),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("one", TensorProto.FLOAT, [1, 1], [1.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", 2])],
        constants,
    )
    if familiar:
        graph.node.append(helper.make_node("Identity", ["column"], ["familiarity"]))
        graph.output.append(helper.make_tensor_value_info("familiarity", TensorProto.FLOAT, ["N", 1]))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if labels is not None:
        helper.set_model_props(made, {"labels": labels})
    return made.SerializeToString()
