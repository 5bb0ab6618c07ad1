"""What every preprocessing promises, and the checks that keep one invertible."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recall_server.errors import InvalidDataset

CHUNK = 1024  # images at a time while fitting: bounds the memory used, whatever the size of the data set
SMALLEST, LARGEST = 1e-6, 1e6  # scales outside these turn float32 images into noise, zeros or infinities


class AbstractPreprocessing(ABC):
    """An invertible map between pixel space and model space, on images [N, C, H, W]."""

    kind: ClassVar[str]

    @abstractmethod
    def to_model(self, pixels: Tensor) -> Tensor:
        """Pixel space [N, C, H, W] -> model space, of the same shape, type and device; differentiable."""

    @abstractmethod
    def to_pixels(self, images: Tensor) -> Tensor:
        """Model space [N, C, H, W] -> pixel space: the exact inverse of `to_model`, not clipped to 0..1."""

    @abstractmethod
    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        """Whether images of (channels, height, width) can go through."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What must be stored to rebuild this; a bundle writes each as `preprocessing.<name>`."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Rebuild from `tensors()`; raises ValueError, with a sentence, when they cannot be inverted."""


def chunks(pixels: Tensor | NDArray[Any]) -> Iterator[Tensor]:
    """The images in pixel space, float64 on the CPU, a bounded number at a time."""
    if pixels.ndim != 4:
        raise ValueError(f"images must be [N, C, H, W], not {list(pixels.shape)}")
    if 0 in pixels.shape:
        raise InvalidDataset(f"there is nothing to fit in images of shape {list(pixels.shape)}")
    whole = pixels.dtype in (torch.uint8, np.uint8)
    for start in range(0, len(pixels), CHUNK):
        part = pixels[start : start + CHUNK]
        if not isinstance(part, Tensor):  # a copy, because torch takes no read-only, reversed or byte-swapped arrays
            part = torch.from_numpy(np.array(part, dtype=np.float64, order="C"))
        chunk = part.detach().to(device="cpu", dtype=torch.float64)
        if not bool(chunk.isfinite().all()):
            raise InvalidDataset(f"images {start} to {start + len(chunk) - 1} hold values that are not finite")
        yield chunk / 255 if whole else chunk


def require_usable_scales(name: str, scales: Tensor) -> None:
    if not bool(((scales >= SMALLEST) & (scales <= LARGEST)).all()):
        raise ValueError(f"{name} must lie between {SMALLEST:g} and {LARGEST:g}, or the map cannot be inverted")


def require_orthonormal(directions: Tensor, *, name: str = "directions") -> None:
    """D D^T = I, probed with eight vectors: the whole product of 3072 directions would take seconds to load."""
    probes = torch.randn(8, directions.shape[0], generator=torch.Generator().manual_seed(0)).to(directions)
    if not torch.allclose((probes @ directions) @ directions.T, probes, atol=1e-3):
        raise ValueError(f"{name} must have orthonormal rows, or the map cannot be inverted")
