"""Exports the head of an encoder together with the encoder, as one ONNX model that takes pictures."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from recall_server.core.classifier.familiarity import OTHERS_SHARE, Familiarity
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.classifier.onnx_graph import OnnxGraph, batch, checked_bytes
from recall_server.core.classifier.onnx_padding import write_paddings
from recall_server.core.encoders.query_encoder import QueryEncoder

HEAD: Final = "head/"
FAMILIARITY: Final = "familiarity"


def export_with_encoder(encoder: QueryEncoder, head: FreshClassifier) -> bytes:
    """A checked ONNX model: "images" [N, 3, S, S] in pixel space -> "probabilities" [N, k], and "familiarity" [N, 1].

    All weights are in single precision and all paddings are numbers, which every runtime supports. The metadata is that
    of the head. The output "familiarity" is left out where the head has none.
    """
    model = onnx.load_model_from_string(encoder.model)
    _in_single_precision(model.graph)
    exported = compose.add_prefix(onnx.load_model_from_string(head.export_onnx()), HEAD)
    graph = model.graph
    size = numpy_helper.from_array(np.array([-1, encoder.query_size, 1, 1], dtype=np.int64), f"{HEAD}shape")
    graph.initializer.extend([size, *exported.graph.initializer])
    graph.node.append(helper.make_node("Reshape", ["queries", f"{HEAD}shape"], [f"{HEAD}images"], name=f"{HEAD}in"))
    graph.node.extend(exported.graph.node)
    graph.node.append(helper.make_node("Identity", [f"{HEAD}probabilities"], ["probabilities"], name="probabilities"))
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(batch("images", *encoder.image_shape))
    graph.output.append(batch("probabilities", len(head.labels)))
    if head.familiarity is not None:
        added = _familiarity(head.familiarity)
        graph.initializer.extend(added.constants.values())
        graph.node.extend(added.nodes)
        graph.output.append(batch(FAMILIARITY, 1))
    del model.metadata_props[:]
    model.metadata_props.extend(exported.metadata_props)
    write_paddings(model)
    return checked_bytes(model)


def _familiarity(familiarity: Familiarity) -> OnnxGraph:
    """The nodes of `Familiarity.of`, from the features "queries" to "familiarity"."""
    graph = OnnxGraph()

    def largest(name: str, rows: slice) -> str:
        """Add the largest logit [N, 1] of these rows of the head."""
        weights, bias = familiarity.head
        constants = [graph.constant(f"{name}.weight", weights[rows]), graph.constant(f"{name}.bias", bias[rows])]
        logits = graph.add("Gemm", ["queries", *constants], output=f"{name}.logits", transB=1)
        return graph.add("ReduceMax", [logits], output=f"{name}.largest", axes=[1], keepdims=1)

    def with_constant(operator: str, value: str, name: str, number: float) -> str:
        operands = [value, graph.constant(f"{FAMILIARITY}.{name}", number)]
        return graph.add(operator, operands, output=f"{FAMILIARITY}.with_{name}")

    score = largest(f"{FAMILIARITY}.classes", slice(0, familiarity.classes))
    if len(familiarity.head.bias) > familiarity.classes:
        others = largest(f"{FAMILIARITY}.others", slice(familiarity.classes, None))
        share = with_constant("Mul", others, "share", OTHERS_SHARE)
        score = graph.add("Sub", [score, share], output=f"{FAMILIARITY}.score")
    steep = with_constant(
        "Mul", with_constant("Sub", score, "midpoint", familiarity.midpoint), "slope", familiarity.slope
    )
    graph.add("Sigmoid", [steep], output=FAMILIARITY)
    return graph


def _in_single_precision(graph: onnx.GraphProto) -> None:
    """Replace half-precision constants, each followed by a Cast, by single-precision constants."""
    halves = {constant.name: constant for constant in graph.initializer if constant.data_type == TensorProto.FLOAT16}
    kept = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in halves:
            constant = halves[node.input[0]]
            values = numpy_helper.to_array(constant).astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(values, node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
