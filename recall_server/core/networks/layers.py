"""The operations of the networks, written so that they compile well when differentiated twice.

The second derivatives of `torch.nn.functional.group_norm` and `avg_pool2d` are slow; a compiler fuses the plain
arithmetic below with the operations around the convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from recall_server.core.networks.base import Parameters
from recall_server.core.networks.kernels import EPSILON


def convolution(
    parameters: Parameters, name: str, images: Tensor, *, padding: int, dtype: torch.dtype | None = None
) -> Tensor:
    """[N, C, H, W] -> [N, C', H', W'] with `name.weight` and `name.bias`, computed in `dtype` if given."""
    weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
    if dtype is None:
        return conv2d(images, weight, bias, padding=padding)
    return conv2d(images.to(dtype), weight.to(dtype), padding=padding).to(images.dtype) + bias.view(1, -1, 1, 1)


def instance_norm(parameters: Parameters, name: str, images: Tensor) -> Tensor:
    """Normalise each channel of each image over its pixels, then scale and shift (GroupNorm with one channel each)."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    centred = images - mean
    variance = (centred * centred).mean(dim=(2, 3), keepdim=True)
    scale = parameters[f"{name}.scale"].view(1, -1, 1, 1) * (variance + EPSILON).rsqrt()
    return centred * scale + parameters[f"{name}.shift"].view(1, -1, 1, 1)


def average_pool(images: Tensor) -> Tensor:
    """2x2 average pooling; an odd last row or column is dropped."""
    height, width = images.shape[2] // 2 * 2, images.shape[3] // 2 * 2
    even, odd = images[:, :, 0:height:2], images[:, :, 1:height:2]
    return (even[..., 0:width:2] + even[..., 1:width:2] + odd[..., 0:width:2] + odd[..., 1:width:2]) * 0.25


def linear(parameters: Parameters, name: str, features: Tensor) -> Tensor:
    """[N, D] -> [N, D'] with `name.weight` [D', D] and `name.bias`."""
    return features @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]


def relu(images: Tensor) -> Tensor:
    """max(x, 0), written as a clamp, whose second derivative is zero and costs nothing."""
    return images.clamp(min=0)


def normalisation_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.scale": (channels,), f"{name}.shift": (channels,)}


def convolution_shapes(name: str, channels: int, filters: int, kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (filters, channels, kernel, kernel), f"{name}.bias": (filters,)}


def linear_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
