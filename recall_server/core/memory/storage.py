"""The number format of a stored memory: float32, bfloat16, or int8 with scales (artifacts/README.md).

A memory always computes in float32. Numbers are rounded once: storing a loaded memory in its own format gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import torch
from torch import Tensor

from recall_server.core.io.tensor_file import printable
from recall_server.core.memory.base import AbstractMemory

Storage = Literal["float32", "bfloat16", "int8"]
Memory = TypeVar("Memory", bound=AbstractMemory)

SCALE = ".scale"  # suffix of the name of a tensor's scales
LARGEST = 127  # numbers are stored from -127 to 127, symmetric about zero
SCALE_BITS = 17  # of a scale; with the 7 bits of a number, products have the 24 bits of a float32 and are exact
SMALLEST_SCALE = 2.0**-100  # of the scale of numbers that are all zero


def quantise(memory: AbstractMemory, storage: Storage) -> dict[str, Tensor]:
    """The tensors of a memory as they are stored in a file."""
    tensors = {name: tensor.detach().to(torch.float32) for name, tensor in memory.tensors().items()}
    if storage == "float32":
        return tensors
    if storage == "bfloat16":
        return {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    result = {}
    for name, tensor in tensors.items():
        result[name], result[name + SCALE] = _quantised(tensor, memory.quantisation_axes(name))
    return result


def dequantise(tensors: Mapping[str, Tensor], kind: type[AbstractMemory]) -> tuple[dict[str, Tensor], Storage]:
    """The memory's tensors as float32, and their storage.

    Raises ValueError if the tensors have different formats or int8 numbers are not as `quantise` writes them, and
    KeyError, with the name, for missing scales.
    """
    whole = {name for name, tensor in tensors.items() if tensor.dtype == torch.int8}
    if not whole:
        alike = {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
        return {name: tensor.to(torch.float32) for name, tensor in tensors.items()}, "bfloat16" if alike else "float32"
    names = [name for name in tensors if not (name.endswith(SCALE) and name.removesuffix(SCALE) in whole)]
    if unlike := [name for name in names if name not in whole]:
        one, other = printable(min(unlike)), printable(min(whole))
        raise ValueError(f"the tensor {one!r} must be of whole numbers, as {other!r} of the same memory is")
    return {
        name: _restored(name, tensors[name], tensors[name + SCALE], kind.quantisation_axes(name)) for name in names
    }, "int8"


def fake_quantise(memory: Memory, storage: Storage) -> Memory:
    """The memory as its file would recall it. Gradients pass through the rounding unchanged.

    This is the straight-through estimator (Bengio, Leonard and Courville, 2013).
    """
    if storage == "float32":
        return memory
    values, _ = dequantise(quantise(memory, storage), type(memory))
    exact = memory.tensors()
    return memory.replace({name: exact[name] + (values[name] - exact[name]).detach() for name in exact})


def _quantised(values: Tensor, along: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """int8 numbers of the same shape, and float32 scales, one for each index of the dimensions `along`.

    A scale is the smallest number of SCALE_BITS significant bits that is at least the largest magnitude over LARGEST.
    """
    others = [dimension for dimension in range(values.ndim) if dimension not in along]
    exact = values.double()
    mantissa, exponent = torch.frexp(exact.abs().amax(dim=others, keepdim=True) / LARGEST)
    scale = torch.ldexp((mantissa * 2**SCALE_BITS).ceil(), exponent - SCALE_BITS).clamp(min=SMALLEST_SCALE)
    shape = [values.shape[dimension] for dimension in along]
    return (exact / scale).round().to(torch.int8), scale.float().reshape(shape)


def _restored(name: str, whole: Tensor, scale: Tensor, along: tuple[int, ...]) -> Tensor:
    shown = repr(printable(name))
    if whole.ndim <= max(along) or whole.ndim == len(along):
        raise ValueError(f"the tensor {shown} has too few dimensions, {list(whole.shape)}, to be stored as int8")
    shape = [whole.shape[dimension] for dimension in along]
    if scale.dtype != torch.float32 or list(scale.shape) != shape:
        raise ValueError(
            f"the scales of the tensor {shown} must be float32 {shape}, not "
            f"{str(scale.dtype).removeprefix('torch.')} {list(scale.shape)}"
        )
    spread = [size if dimension in along else 1 for dimension, size in enumerate(whole.shape)]
    values = whole.to(torch.float32) * scale.reshape(spread)
    again, scales = _quantised(values, along)
    if not (torch.equal(again, whole) and torch.equal(scales, scale)):
        raise ValueError(
            f"the tensor {shown} and its scales are not what int8 storage writes: whole numbers within {LARGEST} that "
            f"reach it under each scale, and scales above zero of at most {SCALE_BITS} significant bits"
        )
    return values
