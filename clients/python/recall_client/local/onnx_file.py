"""A look at an ONNX file before a runtime reads it: it must not refer to other files.

A tensor may name a file that holds its data, relative to the working directory. A runtime opens it, and an answer could
then reveal what it holds. The file is a protobuf message; only the fields that lead to tensors are followed here.
"""

from __future__ import annotations

from collections.abc import Iterator

_TENSOR, _SPARSE, _ATTRIBUTE, _NODE, _GRAPH, _FUNCTION, _TRAINING, _MODEL = range(8)
_FIELDS: dict[int, dict[int, int]] = {  # message -> number of a field -> message in that field (onnx.proto)
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def is_self_contained(model: bytes) -> bool:
    """Tell whether every tensor of an ONNX model holds its own data. Raises ValueError for other files."""
    if not model:
        raise ValueError("the file is empty")
    waiting = [(_MODEL, memoryview(model))]
    while waiting:
        message, data = waiting.pop()
        for number, value in _fields(data):
            if message == _TENSOR and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
                return False
            child = _FIELDS[message].get(number)
            if child is not None:
                if isinstance(value, int):
                    raise ValueError(f"field {number} holds a number instead of a message")
                waiting.append((child, value))
    return True


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value of each field of a protobuf message. Raises ValueError for anything else."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire_type = key >> 3, key & 7
        value: int | memoryview = 0
        if wire_type == _VARINT:
            value, position = _varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        elif wire_type == _BYTES:
            size, position = _varint(data, position)
            value, position = data[position : position + size], position + size
        else:
            raise ValueError(f"field {number} has the wire type {wire_type}")
        if position > len(data):
            raise ValueError(f"field {number} is cut off")
        yield number, value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Return the base-128 number at `position`, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("the file is cut off")
        value |= (data[position] & 0x7F) << shift
        position += 1
        if data[position - 1] < 0x80:
            return value, position
    raise ValueError("a number has more than ten bytes")
