"""Any ONNX image tower in the one form that bundles, the server and exported classifiers build on.

In that form a model has the input `images` [N, C, H, W] float32 in 0..1, with the scaling of its authors
inside, and the output `queries` [N, D]. Its metadata describes it. Weights may be stored in half precision: a Cast in
front of each use restores float32, which runtimes fold away when they load the file.

Unless they are to be `plain`, features are signed square roots, scaled to length one (Perronnin, Sánchez and Mensink,
"Improving the Fisher kernel for large-scale image classification", ECCV 2010): they are closer to Gaussian, so heads
learn more from the same pictures (`benchmarks/features.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from recall_server.core.encoders.description import DESCRIPTION_KEY, EncoderDescription
from recall_server.core.io.tensor_file import canonical_json

HALVED_FROM = 1024  # elements: smaller tensors stay in float32
SMALLEST_SUM = 1e-12  # of absolute features: a picture without any has features of length zero
PREFIX = "encoder/"


@dataclass(frozen=True)
class Scaling:
    """How authors scale pixels p in 0..1 before their network: (p - mean) / deviation, one number a channel or one."""

    mean: Sequence[float]
    deviation: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.mean) not in (1, 3) or len(self.deviation) not in (1, 3):
            raise ValueError("mean and deviation must be one number, or one for each of three channels")
        if any(not number > 0 for number in self.deviation):
            raise ValueError(f"the deviation must be above zero, not {list(self.deviation)}")


def standard_form(
    model: onnx.ModelProto,
    scaling: Scaling,
    description: EncoderDescription,
    *,
    output: str | None = None,
    half: bool = True,
    plain: bool = False,
) -> bytes:
    """The bytes of `model` in the standard form, the same for the same arguments.

    Raises ValueError, in one sentence, for a model that has several inputs, whose input is no batch of colour pictures,
    or that has several outputs of features and no `output` to choose one.
    """
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    entry, channels_last = _entry(inner.graph)
    chosen = _output(inner.graph, output)
    inner = compose.add_prefix(inner, PREFIX)
    graph = inner.graph
    nodes = _scale(graph, scaling, PREFIX + entry.name, channels_last=channels_last)
    nodes += graph.node
    nodes += _features(graph, PREFIX + chosen.name, description.width, plain=plain)
    del graph.node[:]
    graph.node.extend(nodes)
    shape = ["N", 3, *_sides(entry, description.size, channels_last=channels_last)]
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, shape))
    graph.output.append(helper.make_tensor_value_info("queries", TensorProto.FLOAT, ["N", description.width]))
    if half:
        _halve(graph)
    inner.producer_name = "memory-recall"
    del inner.metadata_props[:]
    helper.set_model_props(inner, {DESCRIPTION_KEY: canonical_json(description.model_dump(mode="json"))})
    onnx.checker.check_model(inner)
    data: bytes = inner.SerializeToString(deterministic=True)
    return data


def _entry(graph: onnx.GraphProto) -> tuple[onnx.ValueInfoProto, bool]:
    """The input for pictures, and whether their channels come last."""
    constants = {constant.name for constant in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1:
        raise ValueError(f"an encoder has one input, not {len(inputs)}: {', '.join(each.name for each in inputs)}")
    entry = inputs[0]
    shape = [dimension.dim_value for dimension in entry.type.tensor_type.shape.dim]
    if entry.type.tensor_type.elem_type != TensorProto.FLOAT or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise ValueError(f"the input {entry.name} must be float32 pictures [N, 3, H, W] or [N, H, W, 3], not {shape}")
    return entry, shape[1] != 3


def _sides(entry: onnx.ValueInfoProto, size: int, *, channels_last: bool) -> list[int | str]:
    """Height and width: fixed where the model fixes them, else free. Raises ValueError where they are not `size`."""
    dimensions = list(entry.type.tensor_type.shape.dim)
    own = [dimension.dim_value for dimension in (dimensions[1:3] if channels_last else dimensions[2:4])]
    if any(own) and own != [size, size]:
        raise ValueError(f"the model takes pictures of {own[0]}x{own[1]}, not of {size}x{size}")
    return [size, size] if any(own) else ["height", "width"]


def _output(graph: onnx.GraphProto, name: str | None) -> onnx.ValueInfoProto:
    outputs: dict[str, onnx.ValueInfoProto] = {each.name: each for each in graph.output}
    if name is not None and name not in outputs:
        raise ValueError(f"the model has no output {name!r}; it has {', '.join(outputs)}")
    if name is None and len(outputs) > 1:
        raise ValueError(f"the model has several outputs, {', '.join(outputs)}; choose the features with --output")
    return outputs[name] if name is not None else next(iter(outputs.values()))


def _scale(graph: onnx.GraphProto, scaling: Scaling, entry: str, *, channels_last: bool) -> list[onnx.NodeProto]:
    """The nodes from `images` to the model's own input."""
    for name, numbers in (("scaling.mean", scaling.mean), ("scaling.deviation", scaling.deviation)):
        values = np.asarray(numbers, dtype=np.float32).reshape(1, -1, 1, 1)
        graph.initializer.append(numpy_helper.from_array(values, name))
    scaled = "scaled" if channels_last else entry
    nodes = [
        helper.make_node("Sub", ["images", "scaling.mean"], ["centred"], name="centred"),
        helper.make_node("Div", ["centred", "scaling.deviation"], [scaled], name="scaled"),
    ]
    if channels_last:
        nodes.append(helper.make_node("Transpose", [scaled], [entry], name="channels_last", perm=[0, 2, 3, 1]))
    return nodes


def _features(graph: onnx.GraphProto, value: str, width: int, *, plain: bool) -> list[onnx.NodeProto]:
    """[N, D] or [N, D, 1, 1] -> [N, D], as it is or as signed square roots of length one.

    The operators are those that onnxruntime and OpenCV's dnn have in all versions: LpNormalization is not among them.
    """
    if plain:
        return [_node("Flatten", [value], "queries", axis=1)]
    ones, smallest = np.ones((width, 1), dtype=np.float32), np.array([SMALLEST_SUM], dtype=np.float32)
    graph.initializer.append(numpy_helper.from_array(ones, "root.ones"))
    graph.initializer.append(numpy_helper.from_array(smallest, "root.smallest"))
    return [
        _node("Flatten", [value], "root/flat", axis=1),
        _node("Abs", ["root/flat"], "root/absolute"),
        _node("Sqrt", ["root/absolute"], "root/unsigned"),
        _node("Sign", ["root/flat"], "root/sign"),
        _node("Mul", ["root/unsigned", "root/sign"], "root/signed"),
        _node("MatMul", ["root/absolute", "root.ones"], "root/sum"),  # of the squares of the roots
        _node("Add", ["root/sum", "root.smallest"], "root/above_zero"),
        _node("Sqrt", ["root/above_zero"], "root/length"),
        _node("Div", ["root/signed", "root/length"], "queries"),
    ]


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def _halve(graph: onnx.GraphProto) -> None:
    """Store large float32 constants as float16, each with a Cast back under its own name."""
    casts = []
    for position, constant in enumerate(graph.initializer):
        if constant.data_type != TensorProto.FLOAT or int(np.prod(constant.dims)) < HALVED_FROM:
            continue
        name = constant.name
        halves = numpy_helper.to_array(constant).astype(np.float16)
        if not np.isfinite(halves).all():
            raise ValueError(f"the weights {name} have numbers beyond half precision; store the encoder in full")
        graph.initializer[position].CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
