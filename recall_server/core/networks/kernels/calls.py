"""Pass tensors to compiled functions, as sizes and addresses."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SUFFIXES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}


@functools.cache
def functions(
    library: ctypes.CDLL, name: str, dtypes: tuple[torch.dtype, ...] = tuple(SUFFIXES)
) -> dict[torch.dtype, Callable[..., Any]]:
    """Return the function `name` of a library for each of `dtypes`; these functions return nothing."""
    found = {dtype: getattr(library, f"{name}_{SUFFIXES[dtype]}") for dtype in dtypes}
    for function in found.values():
        function.restype = None
    return found


def sizes(*numbers: int) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(numbers))(*numbers)


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def pointers(*tensors: Tensor | None) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))


def addresses(*compiled: Any) -> ctypes.Array[ctypes.c_void_p]:
    """The addresses of compiled functions, for a function that calls them."""
    return (ctypes.c_void_p * len(compiled))(*(ctypes.cast(each, ctypes.c_void_p).value for each in compiled))


def channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def empty_channels_last(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
