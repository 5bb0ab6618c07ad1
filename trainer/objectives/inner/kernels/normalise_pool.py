"""Instance norm, ReLU and pooling in Triton, for CUDA devices (`normalise_pool_kernels.py`).

Torch runs the operation as some ten kernels, whose time is that of the memory that they move. Here each tensor is read
and written once.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from recall_server.core.networks.kernels import EPSILON
from recall_server.core.networks.kernels.blocks import AbstractBlocks, Affine, BlockTangent, BlockValue
from recall_server.core.networks.kernels.calls import channels_last
from recall_server.core.networks.kernels.convolutions import FEW_CHANNELS, AbstractConvolution
from trainer.objectives.inner.kernels.normalise_pool_kernels import backward_kernel, forward_kernel
from trainer.objectives.inner.kernels.windows import TritonWindows

WINDOWS = 64  # pooled pixels that a program processes at a time
CHANNELS = 32  # channels of a program: 64 adjacent bytes in bfloat16
VALUES_OF_A_THREAD = 8  # numbers of each tensor that a thread holds


@final
class TritonBlocks(AbstractBlocks):
    """Channels-last images of float32 or bfloat16; scale, shift and statistics are float32."""

    def convolution(self, images: Tensor, filters: int, dtype: torch.dtype) -> AbstractConvolution:
        if images.shape[1] <= FEW_CHANNELS:
            return TritonWindows.of(images, dtype)
        return super().convolution(images, filters, dtype)

    def forward(self, a: Tensor, norm: Affine) -> tuple[Tensor, BlockValue]:
        a = channels_last(a)
        y = _pooled(a, len(a))
        mean, rstd = norm.scale.new_empty(2, *a.shape[:2])
        _forward(a, None, None, *norm, None, None, y, None, mean, rstd, None, None)
        return y, BlockValue(a, *norm, mean, rstd)

    def backward(self, value: BlockValue, gy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ga = torch.empty_like(value.a)
        sums = value.mean.new_empty(2, *value.mean.shape)
        _backward(
            value.a, None, value.mean, value.rstd, None, None, value.scale, value.shift, None,
            channels_last(gy), None, None, ga, None, *sums,
        )  # fmt: skip
        for_scale, for_shift = sums.sum(dim=1)
        return ga, for_scale, for_shift

    def forward_tangent(
        self, a: Tensor, a_dot: Tensor, more: Tensor | None, norm: Affine, norm_dot: Affine
    ) -> tuple[Tensor, BlockTangent]:
        a, a_dot = channels_last(a), channels_last(a_dot)
        both = _pooled(a, 2 * len(a))
        y, y_dot = both.chunk(2)
        mean, rstd, mean_dot, slope = norm.scale.new_empty(4, *a.shape[:2])
        more = None if more is None else channels_last(more)
        _forward(a, a_dot, more, *norm, *norm_dot, y, y_dot, mean, rstd, mean_dot, slope)
        return both, BlockTangent(a, *norm, mean, rstd, a_dot, norm_dot.scale, mean_dot, slope)

    def backward_tangent(
        self, value: BlockTangent, gy: Tensor, gy_dot: Tensor, more: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        a = value.a
        both = _empty(a, 2 * len(a), *a.shape[1:])
        ga_dot, ga = both.chunk(2)
        sums = value.mean.new_empty(2, *value.mean.shape)
        _backward(
            a, value.a_dot, value.mean, value.rstd, value.mean_dot, value.slope, value.scale, value.shift,
            value.scale_dot, channels_last(gy), channels_last(gy_dot), None if more is None else channels_last(more),
            ga, ga_dot, *sums,
        )  # fmt: skip
        for_scale, for_shift = sums.sum(dim=1)
        return both, for_scale, for_shift


def _forward(a: Tensor, a_dot: Tensor | None, more: Tensor | None, *others: Tensor | None) -> None:
    grid, sizes, options = _launch(a)
    tangent, summed = a_dot is not None, more is not None
    forward_kernel[grid](a, a_dot, more, *others, *sizes, EPSILON, tangent=tangent, summed=summed, **options)


def _backward(a: Tensor, a_dot: Tensor | None, *others: Tensor | None) -> None:
    grid, sizes, options = _launch(a)
    tangent, summed = a_dot is not None, others[9] is not None
    backward_kernel[grid](a, a_dot, *others, *sizes, tangent=tangent, summed=summed, **options)


def _launch(a: Tensor) -> tuple[tuple[int, int], tuple[int, int, int], dict[str, int]]:
    """Return the grid of programs, the sizes, and the block sizes of a program."""
    images, channels, height, width = a.shape
    windows = min(WINDOWS, 1 << (height * width // 4 - 1).bit_length())
    warps = max(1, windows * CHANNELS // (32 * VALUES_OF_A_THREAD))
    options = {"BLOCK_P": windows, "BLOCK_C": CHANNELS, "num_warps": warps}
    return (images, -(-channels // CHANNELS)), (height, width, channels), options


def _pooled(a: Tensor, count: int) -> Tensor:
    channels, height, width = a.shape[1:]
    return _empty(a, count, channels, height // 2, width // 2)


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
