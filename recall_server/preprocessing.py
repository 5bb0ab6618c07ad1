"""Pixel space (floats, 0 to 1, not clipped) to model space and back.

Memories live in model space, where training is well conditioned; pictures and other people's tools live in pixel
space. Every preprocessing is affine and invertible, and is stored in the bundle, so that what was distilled in one
space can be shown, exported and mixed with other bundles in the other. Classes are abstract or final.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

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


@final
@dataclass(frozen=True, eq=False)
class Standardise(AbstractPreprocessing):
    """x -> (x - mean) / deviation for each channel; `mean` [C] and `deviation` [C] in units of pixel space."""

    mean: Tensor
    deviation: Tensor
    kind: ClassVar[str] = "standardise"

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.deviation.shape:
            raise ValueError(
                "mean and deviation must both be [channels], "
                f"not {list(self.mean.shape)} and {list(self.deviation.shape)}"
            )
        _require_usable_scales("deviation", self.deviation)

    @classmethod
    def fit(cls, pixels: Tensor | NDArray[Any]) -> Self:
        """Mean and deviation of each channel of images [N, C, H, W], floats in 0..1 or bytes in 0..255.

        A constant channel gets a deviation of 1. Raises InvalidDataset for no images or for values that are not
        finite.
        """
        count = 0
        total = torch.zeros(())
        squares = torch.zeros(())
        for chunk in _chunks(pixels):
            count += chunk.numel() // chunk.shape[1]
            total = total + chunk.sum(dim=(0, 2, 3))
            squares = squares + chunk.square().sum(dim=(0, 2, 3))
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        deviation = torch.where(deviation < SMALLEST, torch.ones_like(deviation), deviation)
        return cls(mean=mean.float(), deviation=deviation.float())

    def to_model(self, pixels: Tensor) -> Tensor:
        return (pixels - _per_channel(self.mean, pixels)) / _per_channel(self.deviation, pixels)

    def to_pixels(self, images: Tensor) -> Tensor:
        return images * _per_channel(self.deviation, images) + _per_channel(self.mean, images)

    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        return image_shape[0] == self.mean.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "deviation": self.deviation}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(mean=tensors["mean"], deviation=tensors["deviation"])


@final
@dataclass(frozen=True, eq=False)
class ZCA(AbstractPreprocessing):
    """Whitening that stays in image coordinates (paper, appendix A.1), kept as few directions as wanted.

    `mean` [C, H, W], `directions` [m, d] with orthonormal rows, `gains` [m], `rest` []; with d = C*H*W and x0 the
    flattened pixels minus the mean, x -> D^T (g * (D x0)) + rest * (x0 - D^T D x0). With m = d this is full ZCA;
    with m < d the m leading eigenvectors have their own gains and everything else shares one. Because the rows are
    orthonormal the inverse has the same form, with 1/g and 1/rest, and loses nothing.

    The paper's code first normalises each image by itself. That cannot be undone, so it is left out here.
    """

    mean: Tensor
    directions: Tensor
    gains: Tensor
    rest: Tensor
    kind: ClassVar[str] = "zca"

    def __post_init__(self) -> None:
        if self.mean.ndim != 3 or self.directions.ndim != 2 or self.gains.ndim != 1 or self.rest.ndim != 0:
            raise ValueError("mean must be [C, H, W], directions [m, d], gains [m] and rest a single number")
        if self.directions.shape[1] != self.mean.numel() or self.directions.shape[0] != self.gains.shape[0]:
            raise ValueError(
                f"directions {list(self.directions.shape)} do not match {self.gains.shape[0]} gains "
                f"and a mean of {self.mean.numel()} numbers"
            )
        _require_usable_scales("gains", self.gains)
        _require_usable_scales("rest", self.rest)
        _require_orthonormal(self.directions)

    @classmethod
    def fit(cls, pixels: Tensor | NDArray[Any], *, ridge: float = 0.1, directions: int | None = None) -> Self:
        """Whiten images [N, C, H, W], floats in 0..1 or bytes in 0..255, by the eigenvectors of their covariance.

        `ridge` is added to every eigenvalue, in units of the mean eigenvalue. `directions` is how many leading
        eigenvectors to keep (all, if None). Raises ValueError for a number of directions that is not in 1..d, and
        InvalidDataset for images that do not vary enough for the ridge given.
        """
        mean, covariance = _moments(pixels)
        size = mean.numel()
        kept = size if directions is None else directions
        if not 1 <= kept <= size:
            raise ValueError(f"images of {size} numbers have 1 to {size} directions, not {directions}")
        ascending, vectors = torch.linalg.eigh(covariance)
        eigenvalues = ascending.flip(0).clamp(min=0)  # rounding makes the smallest slightly negative
        ridged = eigenvalues + ridge * eigenvalues.mean()
        if ridged[kept - 1] < SMALLEST**2 or ridged[kept:].sum() < SMALLEST**2 * (size - kept):
            raise InvalidDataset(f"the images do not vary in every direction; whiten with a ridge above {ridge:g}")
        tail = ridged[kept:].mean() if kept < size else ridged[-1]
        return cls(
            mean=mean.float(),
            directions=vectors.T.flip(0)[:kept].float().contiguous(),
            gains=ridged[:kept].rsqrt().float(),
            rest=tail.rsqrt().float(),
        )

    def to_model(self, pixels: Tensor) -> Tensor:
        return self._scale(pixels - self.mean.to(pixels), self.gains.to(pixels), self.rest.to(pixels))

    def to_pixels(self, images: Tensor) -> Tensor:
        return self._scale(images, 1 / self.gains.to(images), 1 / self.rest.to(images)) + self.mean.to(images)

    def _scale(self, images: Tensor, gains: Tensor, rest: Tensor) -> Tensor:
        """D^T (gains * D x) + rest * (x - D^T D x), as D^T ((gains - rest) * D x) + rest * x: one pass fewer."""
        flat = images.flatten(1)  # [N, d]
        directions = self.directions.to(images)
        along = flat @ directions.T  # [N, m]
        scaled = (along * (gains - rest)) @ directions + rest * flat
        return scaled.view_as(images)

    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        return image_shape == tuple(self.mean.shape)

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "directions": self.directions, "gains": self.gains, "rest": self.rest}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(mean=tensors["mean"], directions=tensors["directions"], gains=tensors["gains"], rest=tensors["rest"])


PREPROCESSINGS: dict[str, type[AbstractPreprocessing]] = {kind.kind: kind for kind in (Standardise, ZCA)}


def _per_channel(values: Tensor, images: Tensor) -> Tensor:
    """[C] -> [C, 1, 1] in the images' own type and on their device."""
    return values.to(images).view(-1, 1, 1)


def _moments(pixels: Tensor | NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Mean [C, H, W] and covariance [d, d] of images [N, C, H, W], in float64."""
    count = 0
    total = torch.zeros(())
    for chunk in _chunks(pixels):
        count += chunk.shape[0]
        total = total + chunk.sum(dim=0)
    mean = total / count
    covariance = torch.zeros(mean.numel(), mean.numel(), dtype=torch.float64)
    for chunk in _chunks(pixels):  # a second pass: products of centred images do not cancel
        centred = (chunk - mean).flatten(1)
        covariance.addmm_(centred.T, centred)
    return mean, covariance / count


def _chunks(pixels: Tensor | NDArray[Any]) -> Iterator[Tensor]:
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


def _require_usable_scales(name: str, scales: Tensor) -> None:
    if not bool(((scales >= SMALLEST) & (scales <= LARGEST)).all()):
        raise ValueError(f"{name} must lie between {SMALLEST:g} and {LARGEST:g}, or the map cannot be inverted")


def _require_orthonormal(directions: Tensor) -> None:
    """D D^T = I, probed with eight vectors: the whole product of 3072 directions would take seconds to load."""
    probes = torch.randn(8, directions.shape[0], generator=torch.Generator().manual_seed(0)).to(directions)
    if not torch.allclose((probes @ directions) @ directions.T, probes, atol=1e-3):
        raise ValueError("directions must have orthonormal rows, or the map cannot be inverted")
