"""A block's convolution in C++, for the CPU: matrix products with windows for few channels, Winograd's for many.

`windows.cpp` holds the windows of a few pixels at a time, and `winograd.cpp` needs a quarter of the products of a
direct convolution. Both need numbers of channels and filters that fill the vectors of every processor.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from recall_server.core.networks.kernels.calls import channels_last, empty_channels_last, functions, pointer, sizes
from recall_server.core.networks.kernels.compiled import compiled
from recall_server.core.networks.kernels.convolutions import FEW_CHANNELS, AbstractConvolution

PRECISIONS = (torch.float32, torch.float64)
MULTIPLE = 32  # the numbers of channels and filters are multiples of it


@functools.cache
def _library(name: str) -> ctypes.CDLL | None:
    return compiled(Path(__file__).with_name(f"{name}.cpp"))


def prepare_convolutions() -> bool:
    """Compile both convolutions; return whether both could be compiled."""
    return all([_library(name) is not None for name in ("windows", "winograd")])


def native_convolution(images: Tensor, filters: int, dtype: torch.dtype) -> AbstractConvolution | None:
    """Return the compiled convolution of `images` [N, C, H, W] with `filters` filters; None if there is none."""
    channels = images.shape[1]
    if dtype not in PRECISIONS or filters % MULTIPLE:
        return None
    if channels <= FEW_CHANNELS:
        library = _library("windows")
        return None if library is None else NativeWindows(library, images.to(dtype).contiguous())
    library = None if channels % MULTIPLE else _library("winograd")
    return None if library is None else Winograd(library, channels_last(images.to(dtype)))


def convolutions_of_chain(channels: int, filters: int, dtype: torch.dtype) -> list[Callable[..., Any]] | None:
    """Return the functions that convolve images of `channels`, and then of `filters` channels; None if one is missing.

    The first takes images that are not channels-last.
    """
    if dtype not in PRECISIONS or channels > FEW_CHANNELS or filters % MULTIPLE:
        return None
    windows, winograd = _library("windows"), _library("winograd")
    if windows is None or winograd is None:
        return None
    return [functions(library, "convolve", PRECISIONS)[dtype] for library in (windows, winograd)]


class _NativeConvolution(AbstractConvolution):
    def __init__(self, library: ctypes.CDLL, images: Tensor) -> None:
        self.library, self.images = library, images

    def for_weight(self, g: Tensor, like: Tensor) -> Tensor:
        gradient = torch.empty(like.shape, dtype=self.images.dtype)
        shape = self._sizes(self.images, len(like))
        g = channels_last(g)
        self._call("for_weight")(shape, pointer(self.images), pointer(g), pointer(gradient))
        return gradient.to(like.dtype)

    def _call(self, name: str) -> Callable[..., Any]:
        return functions(self.library, name, PRECISIONS)[self.images.dtype]

    def _weight(self, weight: Tensor) -> Tensor:
        return weight.to(self.images.dtype).contiguous()

    def _sizes(self, images: Tensor, filters: int) -> ctypes.Array[ctypes.c_int64]:
        count, channels, height, width = images.shape
        return sizes(count, height, width, channels, filters)


@final
class Winograd(_NativeConvolution):
    """Winograd's minimal filtering; images and outputs are channels-last."""

    def apply(self, weight: Tensor) -> Tensor:
        return self._convolved(self.images, self._weight(weight), len(weight), transposed=False)

    def for_input(self, g: Tensor, weight: Tensor) -> Tensor:
        return self._convolved(channels_last(g), self._weight(weight), weight.shape[1], transposed=True)

    def first(self, count: int) -> Winograd:
        return Winograd(self.library, self.images[:count])

    def _convolved(self, images: Tensor, weight: Tensor, filters: int, *, transposed: bool) -> Tensor:
        count, _, height, width = images.shape
        output = empty_channels_last(count, filters, height, width, dtype=images.dtype)
        shape, flag = self._sizes(images, filters), ctypes.c_int64(transposed)
        self._call("convolve")(shape, pointer(images), pointer(weight), flag, pointer(output))
        return output


@final
class NativeWindows(_NativeConvolution):
    """Matrix products with the windows of a few pixels at a time; outputs are channels-last, images are not."""

    def apply(self, weight: Tensor) -> Tensor:
        count, _, height, width = self.images.shape
        output = empty_channels_last(count, len(weight), height, width, dtype=self.images.dtype)
        weight = self._weight(weight)
        shape = self._sizes(self.images, len(weight))
        self._call("convolve")(shape, pointer(self.images), pointer(weight), pointer(output))
        return output

    def for_input(self, g: Tensor, weight: Tensor) -> Tensor:
        gradient = torch.empty(len(g), *self.images.shape[1:], dtype=self.images.dtype)
        g, weight = channels_last(g), self._weight(weight)
        self._call("for_input")(self._sizes(gradient, len(weight)), pointer(g), pointer(weight), pointer(gradient))
        return gradient

    def first(self, count: int) -> NativeWindows:
        return NativeWindows(self.library, self.images[:count])
