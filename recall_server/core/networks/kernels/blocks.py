"""Instance norm, ReLU and 2x2 average pooling as one operation, with its gradient and the derivatives of both.

For a convolution's output a, scale s and shift b, where means are over the pixels of one channel of one image:

    n = (a - mean a) rstd,   z = s n + b,   y = pool(max(z, 0))
    gz = [z > 0] unpool(gy) / 4,   u = s gz - mean(s gz) - n mean(s gz n),   ga = rstd u

Forward mode adds to every tensor x its derivative x' along a direction:

    n' = rstd (a' - mean a' - n mean(n a')),   z' = s' n + s n' + b',   rstd' = -rstd^2 mean(n a')

The derivative of the gradient follows from the product rule, applied to the second line; that of [z > 0] is zero.
Height and width of the images are even.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from recall_server.core.networks.kernels.convolutions import AbstractConvolution, convolution_of

EPSILON = 1e-5  # added to the variance by every norm


class Affine(NamedTuple):
    """Scale and shift [C] of a norm, or their derivatives along a direction."""

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True)
class BlockValue:
    """What the backward pass needs of the forward pass: the convolution's output, and statistics of [N, C] each."""

    a: Tensor
    scale: Tensor
    shift: Tensor
    mean: Tensor
    rstd: Tensor


@dataclass(frozen=True)
class BlockTangent(BlockValue):
    """A block's value with its derivatives; `slope` is mean(n a'), and `scale_dot` the derivative of the scale."""

    a_dot: Tensor
    scale_dot: Tensor
    mean_dot: Tensor
    slope: Tensor


class AbstractBlocks(ABC):
    """The operation for images [N, C, H, W], with y [N, C, H/2, W/2], and the choice of the convolution before it.

    If a direction, or its gradient, is the sum of two tensors, `more` is the second one. Implementations may write to
    a_dot and gy_dot.
    """

    def convolution(self, images: Tensor, filters: int, dtype: torch.dtype) -> AbstractConvolution:
        """Return the convolution of `images` with `filters` filters, computed in `dtype`."""
        return convolution_of(images, dtype)

    def chain(self, images: Tensor, blocks: Sequence[tuple[Tensor, Affine]], dtype: torch.dtype) -> Tensor:
        """Return y of the last block; each has the weight of a convolution, computed in `dtype`, and a norm."""
        for weight, norm in blocks:
            images, _ = self.forward(self.convolution(images, len(weight), dtype).apply(weight), norm)
        return images

    @abstractmethod
    def forward(self, a: Tensor, norm: Affine) -> tuple[Tensor, BlockValue]:
        """Return y, and what the backward pass needs."""

    @abstractmethod
    def backward(self, value: BlockValue, gy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ga, and the gradients for scale and shift."""

    @abstractmethod
    def forward_tangent(
        self, a: Tensor, a_dot: Tensor, more: Tensor | None, norm: Affine, norm_dot: Affine
    ) -> tuple[Tensor, BlockTangent]:
        """Return y and y' as one tensor [2N, ...], and what the backward pass needs."""

    @abstractmethod
    def backward_tangent(
        self, value: BlockTangent, gy: Tensor, gy_dot: Tensor, more: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return ga' and ga as one tensor [2N, ...], and the derivatives of the gradients for scale and shift."""


@final
class TorchBlocks(AbstractBlocks):
    """The reference: torch's own operations, for every device and precision. torch.compile can compile it."""

    def forward(self, a: Tensor, norm: Affine) -> tuple[Tensor, BlockValue]:
        value = self._value(a, norm)
        z = value.scale * self._normalised(value) + value.shift
        return avg_pool2d(z.clamp(min=0), 2).to(a.dtype), value

    def backward(self, value: BlockValue, gy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = self._normalised(value)
        gz = _unpool(gy, value.scale * n + value.shift)
        u = value.scale * (gz - _mean(gz) - n * _mean(gz * n))
        return (value.rstd * u).to(gy.dtype), (gz * n).sum(dim=(0, 2, 3)), gz.sum(dim=(0, 2, 3))

    def forward_tangent(
        self, a: Tensor, a_dot: Tensor, more: Tensor | None, norm: Affine, norm_dot: Affine
    ) -> tuple[Tensor, BlockTangent]:
        a_dot = (a_dot if more is None else a_dot + more).to(norm.scale.dtype)
        value = self._value(a, norm)
        n = self._normalised(value)
        tangent = BlockTangent(
            **vars(value), a_dot=a_dot, scale_dot=_column(norm_dot.scale), mean_dot=_mean(a_dot), slope=_mean(n * a_dot)
        )
        z = value.scale * n + value.shift
        z_dot = tangent.scale_dot * n + value.scale * _normalised_dot(tangent, n) + _column(norm_dot.shift)
        y, y_dot = avg_pool2d(z.clamp(min=0), 2), avg_pool2d(torch.where(z <= 0, 0, z_dot), 2)
        return torch.cat((y, y_dot)).to(a.dtype), tangent

    def backward_tangent(
        self, value: BlockTangent, gy: Tensor, gy_dot: Tensor, more: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        gy_dot = gy_dot if more is None else gy_dot + more
        n = self._normalised(value)
        n_dot = _normalised_dot(value, n)
        z = value.scale * n + value.shift
        gz, gz_dot = _unpool(gy, z), _unpool(gy_dot, z)
        gn, gn_dot = value.scale * gz, value.scale_dot * gz + value.scale * gz_dot
        second, second_dot = _mean(gn * n), _mean(gn_dot * n + gn * n_dot)
        u = gn - _mean(gn) - n * second
        u_dot = gn_dot - _mean(gn_dot) - n_dot * second - n * second_dot
        ga, ga_dot = value.rstd * u, value.rstd * (u_dot - value.rstd * value.slope * u)
        for_scale = (gz_dot * n + gz * n_dot).sum(dim=(0, 2, 3))
        return torch.cat((ga_dot, ga)).to(gy.dtype), for_scale, gz_dot.sum(dim=(0, 2, 3))

    def _value(self, a: Tensor, norm: Affine) -> BlockValue:
        a = a.to(norm.scale.dtype)
        mean = _mean(a)
        rstd = (_mean((a - mean).square()) + EPSILON).rsqrt()
        return BlockValue(a=a, scale=_column(norm.scale), shift=_column(norm.shift), mean=mean, rstd=rstd)

    def _normalised(self, value: BlockValue) -> Tensor:
        return (value.a - value.mean) * value.rstd


def _normalised_dot(value: BlockTangent, n: Tensor) -> Tensor:
    return value.rstd * (value.a_dot - value.mean_dot - n * value.slope)


def _mean(images: Tensor) -> Tensor:
    return images.mean(dim=(2, 3), keepdim=True)


def _column(vector: Tensor) -> Tensor:
    return vector.view(1, -1, 1, 1)


def _unpool(gy: Tensor, z: Tensor) -> Tensor:
    spread = interpolate(gy.to(z.dtype), scale_factor=2.0, mode="nearest")
    return torch.where(z <= 0, 0, spread / 4)
