"""The interface of a preprocessing, and the checks that keep one invertible."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recall_server.errors import InvalidDataset

CHUNK = 1024  # images at a time while fitting: bounds the memory used, whatever the size of the data set
SMALLEST, LARGEST = 1e-6, 1e6  # scales outside this range turn float32 images into noise, zeros or infinities


class AbstractPreprocessing(ABC):
    """An invertible map between pixel space and model space, on images [N, C, H, W]."""

    kind: ClassVar[str]

    @abstractmethod
    def to_model(self, pixels: Tensor) -> Tensor:
        """Pixel space [N, C, H, W] -> model space, with the same shape, dtype and device; differentiable."""

    @abstractmethod
    def to_pixels(self, images: Tensor) -> Tensor:
        """Model space [N, C, H, W] -> pixel space: the exact inverse of `to_model`, not clipped to 0..1."""

    @abstractmethod
    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        """Whether the map accepts images of shape (channels, height, width)."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The tensors needed to rebuild this map; a bundle stores each as `preprocessing.<name>`."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Rebuild the map from `tensors()`. Raises ValueError if it would not be invertible."""


def chunks(pixels: Tensor | NDArray[Any]) -> Iterator[Tensor]:
    """Yield the images in pixel space as float64 on the CPU, at most CHUNK at a time.

    Raises ValueError for another number of dimensions, InvalidDataset for no images or for values that are not finite.
    """
    if pixels.ndim != 4:
        raise ValueError(f"images must be [N, C, H, W], not {list(pixels.shape)}")
    if 0 in pixels.shape:
        raise InvalidDataset(f"there is nothing to fit in images of shape {list(pixels.shape)}")
    whole = pixels.dtype in (torch.uint8, np.uint8)
    for start in range(0, len(pixels), CHUNK):
        part = pixels[start : start + CHUNK]
        if not isinstance(part, Tensor):  # copied: torch rejects read-only, reversed and byte-swapped arrays
            part = torch.from_numpy(np.array(part, dtype=np.float64, order="C"))
        chunk = part.detach().to(device="cpu", dtype=torch.float64)
        if not bool(chunk.isfinite().all()):
            raise InvalidDataset(f"images {start} to {start + len(chunk) - 1} hold values that are not finite")
        yield chunk / 255 if whole else chunk


def chunked_mean(
    pixels: Tensor | NDArray[Any], statistic: Callable[[Tensor], Tensor] = lambda images: images
) -> Tensor:
    """The mean over all images [N, C, H, W] of a statistic of each, by default the image itself; float64."""
    count = 0
    total = torch.zeros(())
    for chunk in chunks(pixels):
        count += len(chunk)
        total = total + statistic(chunk).sum(dim=0)
    return total / count


def require_usable_scales(name: str, scales: Tensor) -> None:
    """Raise ValueError for scales outside SMALLEST to LARGEST."""
    if not bool(((scales >= SMALLEST) & (scales <= LARGEST)).all()):
        raise ValueError(f"{name} must lie between {SMALLEST:g} and {LARGEST:g}, or the map cannot be inverted")


def require_orthonormal(directions: Tensor, *, name: str = "directions") -> None:
    """Raise ValueError unless D D^T = I.

    Eight random vectors probe this, because the full product of 3072 directions would add seconds to loading.
    """
    probes = torch.randn(8, directions.shape[0], generator=torch.Generator().manual_seed(0)).to(directions)
    if not torch.allclose((probes @ directions) @ directions.T, probes, atol=1e-3):
        raise ValueError(f"{name} must have orthonormal rows, or the map cannot be inverted")
