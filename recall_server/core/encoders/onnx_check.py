"""What an ONNX file from a stranger may hold. Checked before any runtime sees the file.

A runtime resolves a tensor with external data against the working directory, even for a model that is loaded from
bytes: such a file reads other files of the server. Operators of other domains do whatever their library does, loops run
for as long as they like, and a tensor may be declared far larger than the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import onnx
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto

from recall_server.core.io.tensor_file import printable

DOMAINS: Final = frozenset({"", "ai.onnx"})  # the operators of the ONNX standard
LOOPS: Final = frozenset({"Loop", "Scan", "SequenceMap"})
MOST_NODES: Final = 20_000
MOST_NUMBERS: Final = 64_000_000  # in all tensors of a file
SMALLEST_ELEMENTS: Final = 4  # of a byte: the narrowest type of ONNX has two bits
DATA_FIELDS: Final = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
# onnxruntime takes a file with these bytes at this place for one of its own format, which has external data as well.
ORT_FORMAT: Final = slice(4, 8), b"ORTM"


def check_onnx(data: bytes, *, numbers: int = MOST_NUMBERS) -> ModelProto:
    """The parsed model, if its operators are standard and all its tensors lie in the file.

    Raises ValueError, in one sentence, for anything else: external data, functions, training graphs, operators of other
    domains, loops, more than `numbers` numbers or MOST_NODES operators, and tensors larger than their data.
    """
    place, magic = ORT_FORMAT
    if data[place] == magic:
        raise ValueError("it is in the format of onnxruntime, not ONNX")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises classes of its own, without a common root
        raise ValueError("it is no ONNX model") from error
    if not model.graph.node:
        raise ValueError("it is no ONNX model with operators")
    if model.functions or model.training_info:
        raise ValueError("it defines functions or training graphs, which are not accepted")
    _check_domains(imported.domain for imported in model.opset_import)
    found, nodes = 0, 0
    for message in _messages(model):
        if isinstance(message, NodeProto):
            nodes += 1
            _check_node(message)
        elif isinstance(message, TensorProto):
            found += _checked_size(message)
        elif isinstance(message, SparseTensorProto):
            found += _numbers(list(message.dims), message.values.name)
        if found > numbers or nodes > MOST_NODES:
            raise ValueError(f"it has more than {numbers:,} numbers or {MOST_NODES:,} operators")
    return model


def _messages(message: Any) -> Iterator[Any]:
    """Every message inside this one at any depth, whichever field it is in; so none is forgotten."""
    waiting = [message]
    while waiting:
        current = waiting.pop()
        yield current
        for field, value in current.ListFields():
            if field.message_type is not None:
                waiting.extend(value if field.is_repeated else [value])


def _check_domains(domains: Iterator[str]) -> None:
    foreign = next((domain for domain in domains if domain not in DOMAINS), None)
    if foreign is not None:
        raise ValueError(
            f"it uses operators of the domain {printable(foreign)!r}; only standard operators are accepted"
        )


def _check_node(node: NodeProto) -> None:
    _check_domains(iter([node.domain]))
    if node.op_type in LOOPS:
        raise ValueError(f"it uses the operator {node.op_type}, which may run for any length of time")


def _checked_size(tensor: TensorProto) -> int:
    """How many numbers the tensor has; ValueError where they are not all in the file."""
    name = printable(tensor.name)
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise ValueError(f"its tensor {name!r} is stored in another file")
    if tensor.HasField("segment"):
        raise ValueError(f"its tensor {name!r} is stored in segments")
    declared = _numbers(list(tensor.dims), tensor.name)
    stored = max(len(getattr(tensor, field)) for field in DATA_FIELDS)
    if declared > stored * SMALLEST_ELEMENTS:
        raise ValueError(f"its tensor {name!r} declares {declared:,} numbers, but the file does not hold them")
    return declared


def _numbers(dims: list[int], name: str) -> int:
    if min(dims, default=0) < 0:
        raise ValueError(f"its tensor {printable(name)!r} has a negative size")
    return math.prod(dims)
