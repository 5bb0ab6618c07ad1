"""Instance norm, ReLU and pooling in C++, for the CPU (`normalise_pool.cpp`), and all blocks in one call (`chain.cpp`).

The channels of an image go through the cache once per pass, not once per operation of torch. This saves half of the
time of a step.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from recall_server.core.networks.kernels.blocks import EPSILON, AbstractBlocks, Affine, BlockTangent, BlockValue
from recall_server.core.networks.kernels.calls import (
    addresses,
    channels_last,
    empty_channels_last,
    functions,
    pointer,
    pointers,
    sizes,
)
from recall_server.core.networks.kernels.compiled import compiled
from recall_server.core.networks.kernels.convolutions import AbstractConvolution, convolution_of
from recall_server.core.networks.kernels.native_convolutions import (
    PRECISIONS,
    convolutions_of_chain,
    native_convolution,
    prepare_convolutions,
)


@functools.cache
def native_blocks() -> NativeBlocks | None:
    """Return the compiled operation; None, with the reason in the log, if it cannot be compiled."""
    blocks, chain = (compiled(Path(__file__).with_name(f"{name}.cpp")) for name in ("normalise_pool", "chain"))
    return None if blocks is None or chain is None else NativeBlocks(blocks, chain)


def prepare() -> bool:
    """Compile all kernels now, so that no training waits for it; return whether all of them could be compiled."""
    return native_blocks() is not None and prepare_convolutions()


@final
class NativeBlocks(AbstractBlocks):
    """Channels-last images of float32, float64 or bfloat16; scale, shift and statistics are float32 or float64."""

    def __init__(self, library: ctypes.CDLL, chain: ctypes.CDLL) -> None:
        self._forward, self._backward = functions(library, "forward"), functions(library, "backward")
        self._chain = functions(chain, "chain", PRECISIONS)

    def convolution(self, images: Tensor, filters: int, dtype: torch.dtype) -> AbstractConvolution:
        return native_convolution(images, filters, dtype) or convolution_of(images, dtype)

    def chain(self, images: Tensor, blocks: Sequence[tuple[Tensor, Affine]], dtype: torch.dtype) -> Tensor:
        count, channels, height, width = images.shape
        filters, depth = len(blocks[0][0]), len(blocks)
        convolutions = convolutions_of_chain(channels, filters, dtype)
        if convolutions is None:
            return super().chain(images, blocks, dtype)
        images = images.to(dtype).contiguous()
        parameters = [each.to(dtype).contiguous() for weight, norm in blocks for each in (weight, *norm)]
        outputs = count * filters * height * width
        parts = [outputs, outputs // 4, 2 * count * filters]
        a, y, statistics = torch.split(images.new_empty(sum(parts)), parts)
        self._chain[dtype](
            sizes(count, height, width, channels, filters, depth), addresses(*convolutions, self._forward[dtype]),
            pointers(*parameters), *(pointer(each) for each in (images, a, y, statistics)), ctypes.c_double(EPSILON),
        )  # fmt: skip
        height, width = height >> depth, width >> depth
        return y[: count * height * width * filters].view(count, height, width, filters).permute(0, 3, 1, 2)

    def forward(self, a: Tensor, norm: Affine) -> tuple[Tensor, BlockValue]:
        a = channels_last(a)
        y = _pooled(a, len(a))
        mean, rstd = norm.scale.new_empty(2, *a.shape[:2])
        self._run_forward(a, None, None, *norm, None, None, y, None, mean, rstd, None, None)
        return y, BlockValue(a, *norm, mean, rstd)

    def backward(self, value: BlockValue, gy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gy, ga = channels_last(gy), torch.empty_like(value.a)
        for_scale, for_shift = value.mean.new_empty(2, *value.mean.shape)
        self._run_backward(
            value.a, None, value.mean, value.rstd, None, None, value.scale, value.shift, None, gy, None, None, ga, None,
            for_scale, for_shift,
        )  # fmt: skip
        return ga, for_scale.sum(dim=0), for_shift.sum(dim=0)

    def forward_tangent(
        self, a: Tensor, a_dot: Tensor, more: Tensor | None, norm: Affine, norm_dot: Affine
    ) -> tuple[Tensor, BlockTangent]:
        a, a_dot = channels_last(a), channels_last(a_dot)
        more = None if more is None else channels_last(more)
        both = _pooled(a, 2 * len(a))
        y, y_dot = both.chunk(2)
        mean, rstd, mean_dot, slope = norm.scale.new_empty(4, *a.shape[:2])
        self._run_forward(a, a_dot, more, *norm, *norm_dot, y, y_dot, mean, rstd, mean_dot, slope)
        return both, BlockTangent(a, *norm, mean, rstd, a_dot, norm_dot.scale, mean_dot, slope)

    def backward_tangent(
        self, value: BlockTangent, gy: Tensor, gy_dot: Tensor, more: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        gy, gy_dot = channels_last(gy), channels_last(gy_dot)
        more = None if more is None else channels_last(more)
        both = empty_channels_last(2 * len(value.a), *value.a.shape[1:], dtype=value.a.dtype)
        ga_dot, ga = both.chunk(2)
        for_scale, for_shift = value.mean.new_empty(2, *value.mean.shape)
        self._run_backward(
            value.a, value.a_dot, value.mean, value.rstd, value.mean_dot, value.slope, value.scale, value.shift,
            value.scale_dot, gy, gy_dot, more, ga, ga_dot, for_scale, for_shift,
        )  # fmt: skip
        return both, for_scale.sum(dim=0), for_shift.sum(dim=0)

    def _run_forward(self, a: Tensor, *others: Tensor | None) -> None:
        self._forward[a.dtype](_sizes(a), pointers(a, *others), ctypes.c_double(EPSILON))

    def _run_backward(self, a: Tensor, *others: Tensor | None) -> None:
        self._backward[a.dtype](_sizes(a), pointers(a, *others))


def _pooled(a: Tensor, count: int) -> Tensor:
    channels, height, width = a.shape[1:]
    return empty_channels_last(count, channels, height // 2, width // 2, dtype=a.dtype)


def _sizes(a: Tensor) -> ctypes.Array[ctypes.c_int64]:
    images, channels, height, width = a.shape
    return sizes(images, height, width, channels)
