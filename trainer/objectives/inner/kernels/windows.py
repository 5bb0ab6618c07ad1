"""A 3x3 convolution of images with few channels, as one matrix product with their windows, for CUDA devices.

For images of three channels, cuDNN takes five times as long as it takes to move the data. The windows are written as
rows whose width suits the matrix units (`windows_kernels.py`).
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import pad

from recall_server.core.networks.kernels.convolutions import AbstractConvolution, rows_of
from trainer.objectives.inner.kernels.windows_kernels import gather_kernel, spread_kernel

ALIGNED = 32  # the width of a row is a multiple of it: 64 bytes of bfloat16
PIXELS = 128  # pixels of a program


@final
class TritonWindows(AbstractConvolution):
    """Matrix products with the windows of the images; outputs are channels-last."""

    def __init__(self, windows: Tensor, shape: tuple[int, int, int, int]) -> None:
        self.windows, self.shape = windows, shape

    @classmethod
    def of(cls, images: Tensor, dtype: torch.dtype) -> TritonWindows:
        count, channels, height, width = images.shape
        pixels, size = count * height * width, -(-channels * 9 // ALIGNED) * ALIGNED
        windows = torch.empty(pixels, size, dtype=dtype, device=images.device)
        spread_kernel[_programs(pixels),](
            images.contiguous(), windows, pixels, height, width, channels, WIDTH=size, PIXELS=PIXELS
        )
        return cls(windows, (count, channels, height, width))

    def apply(self, weight: Tensor) -> Tensor:
        count, _, height, width = self.shape
        return (self.windows @ self._weight(weight)).view(count, height, width, -1).permute(0, 3, 1, 2)

    def for_weight(self, g: Tensor, like: Tensor) -> Tensor:
        gradient = self.windows.T @ rows_of(g)  # [width of a row, F]
        return gradient[: like[0].numel()].T.reshape(like.shape).to(like.dtype)

    def for_input(self, g: Tensor, weight: Tensor) -> Tensor:
        count, channels, height, width = self.shape
        windows = rows_of(g) @ self._weight(weight).T
        images = torch.empty(self.shape, dtype=_precise(g.dtype), device=g.device)
        pixels, size = windows.shape
        gather_kernel[_programs(pixels), channels](
            windows, images, pixels, height, width, channels, WIDTH=size, PIXELS=PIXELS
        )
        return images

    def first(self, count: int) -> TritonWindows:
        _, channels, height, width = self.shape
        return TritonWindows(self.windows[: count * height * width], (count, channels, height, width))

    def _weight(self, weight: Tensor) -> Tensor:
        """Return the weights as [width of a row, F], with zeros beyond C * 9."""
        flat = weight.to(self.windows.dtype).flatten(1)
        return pad(flat, (0, self.windows.shape[1] - flat.shape[1])).T


def _programs(pixels: int) -> int:
    return -(-pixels // PIXELS)


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.bfloat16 else dtype
