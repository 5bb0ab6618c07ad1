"""ONNX models built node by node, or joined from others, with the helpers of the onnx package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

OPSET = 17
IR_VERSION = 8  # the IR version that came with this opset; runtimes since 2022 read it


@dataclass
class OnnxGraph:
    """An ONNX graph under construction; every value is referred to by its name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, operator: str, inputs: list[str], *, output: str = "", **attributes: Any) -> str:
        """Append a node, and return the name of its output."""
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: Tensor | NDArray[np.float32] | float | list[int]) -> str:
        """Add a constant (a list as int64, anything else as float32), and return its name."""
        values = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        array = np.array(values, np.int64 if isinstance(value, list) else np.float32, order="C")
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def model(
        self, name: str, pictures: Mapping[str, Sequence[int | str]], outputs: Mapping[str, int]
    ) -> onnx.ModelProto:
        """The model, with inputs `pictures` [N, *shape] and `outputs` [N, size] by name, all float32."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [batch(name, *shape) for name, shape in pictures.items()],
            [batch(name, size) for name, size in outputs.items()],
            list(self.constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="memory-recall")


def batch(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    """The description of a float32 input or output [N, *shape]."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])


def checked_bytes(model: onnx.ModelProto) -> bytes:
    """The model as bytes, the same for the same model, after the checks of the onnx package."""
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
