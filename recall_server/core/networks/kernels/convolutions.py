"""A 3x3 convolution of one batch of images with padding 1, with its gradients, by the fastest way for its channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self, final

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, fold, unfold
from torch.nn.grad import conv2d_input, conv2d_weight

KERNEL = 3
# Up to this many channels, the windows of the images are written to memory and a convolution is one matrix product.
# Torch's own gradient for a grey image takes ten times as long.
FEW_CHANNELS = 4


class AbstractConvolution(ABC):
    """A convolution of fixed images [N, C, H, W]; weights are [F, C, 3, 3], outputs and gradients g [N, F, H, W]."""

    @abstractmethod
    def apply(self, weight: Tensor) -> Tensor:
        """Return the convolution of the images with `weight`: [N, F, H, W]."""

    @abstractmethod
    def for_weight(self, g: Tensor, like: Tensor) -> Tensor:
        """Return the gradient of <g, apply(w)> for w, in the shape and precision of `like`."""

    @abstractmethod
    def for_input(self, g: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of <g, apply(weight)> for the images."""

    @abstractmethod
    def first(self, count: int) -> Self:
        """Return the convolution of the first `count` images alone."""


def convolution_of(images: Tensor, dtype: torch.dtype) -> AbstractConvolution:
    """Return the convolution of `images`, computed in `dtype` by torch."""
    if images.device.type == "cpu" and images.shape[1] <= FEW_CHANNELS:
        return Windows.of(images.to(dtype))
    return Direct(images.to(dtype, memory_format=torch.channels_last))


@final
class Direct(AbstractConvolution):
    """Torch's own kernels, channels-last."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def apply(self, weight: Tensor) -> Tensor:
        return conv2d(self.images, self._weight(weight), padding=1)

    def for_weight(self, g: Tensor, like: Tensor) -> Tensor:
        gradient: Tensor
        if g.is_cuda:
            one, wanted = [1, 1], [False, True, False]  # only the gradient for the weight
            _, gradient, _ = torch.ops.aten.convolution_backward(
                g, self.images, self._weight(like), None, one, one, one, False, [0, 0], 1, wanted
            )
        else:
            gradient = conv2d_weight(self.images, like.shape, g, padding=1)  # type: ignore[no-untyped-call]
        return gradient.to(like.dtype)

    def for_input(self, g: Tensor, weight: Tensor) -> Tensor:
        if g.is_cuda:  # conv2d_input would first allocate a tensor as large as the images
            return conv_transpose2d(g, self._weight(weight), padding=1)
        shape = len(g), *self.images.shape[1:]
        gradient: Tensor = conv2d_input(shape, self._weight(weight), g, padding=1)  # type: ignore[no-untyped-call]
        return gradient

    def first(self, count: int) -> Direct:
        return Direct(self.images[:count])

    def _weight(self, weight: Tensor) -> Tensor:
        return weight.to(self.images.dtype, memory_format=torch.channels_last)


@final
class Windows(AbstractConvolution):
    """Matrix products with the windows [N * H * W, C * 9] of the images; outputs are channels-last."""

    def __init__(self, windows: Tensor, shape: tuple[int, int, int, int]) -> None:
        self.windows, self.shape = windows, shape

    @classmethod
    def of(cls, images: Tensor) -> Windows:
        count, channels, height, width = images.shape
        windows = unfold(images, KERNEL, padding=1).transpose(1, 2).flatten(0, 1).contiguous()
        return cls(windows, (count, channels, height, width))

    def apply(self, weight: Tensor) -> Tensor:
        count, _, height, width = self.shape
        rows = self.windows @ self._weight(weight).T
        return rows.view(count, height, width, -1).permute(0, 3, 1, 2)

    def for_weight(self, g: Tensor, like: Tensor) -> Tensor:
        return (self.windows.T @ rows_of(g)).T.reshape(like.shape).to(like.dtype)

    def for_input(self, g: Tensor, weight: Tensor) -> Tensor:
        count, _, height, width = self.shape
        windows = self._weight(weight).T @ rows_of(g).T  # [C * 9, N * H * W]; the other order of the factors is slower
        return fold(windows.view(-1, count, height * width).transpose(0, 1), (height, width), KERNEL, padding=1)

    def first(self, count: int) -> Windows:
        _, channels, height, width = self.shape
        return Windows(self.windows[: count * height * width], (count, channels, height, width))

    def _weight(self, weight: Tensor) -> Tensor:
        return weight.flatten(1).to(self.windows.dtype)


def rows_of(g: Tensor) -> Tensor:
    """Return the pixels of images [N, F, H, W] as rows [N * H * W, F]."""
    return g.permute(0, 2, 3, 1).flatten(0, 2)
