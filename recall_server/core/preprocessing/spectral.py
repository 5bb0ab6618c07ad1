"""Whitening by frequency and colour: an approximation of ZCA that takes a few kilobytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from numpy.typing import NDArray
from torch import Tensor

from recall_server.core.preprocessing.base import AbstractPreprocessing
from recall_server.core.preprocessing.invertible import SMALLEST, require_orthonormal, require_usable_scales
from recall_server.core.preprocessing.standardise import per_channel
from recall_server.core.preprocessing.statistics import chunked_mean, chunks
from recall_server.errors import InvalidDataset


@final
@dataclass(frozen=True, eq=False)
class Spectral(AbstractPreprocessing):
    """Scales each frequency of each colour component by its own gain; the result is an image again.

    `mean` [C], `rotation` R [C, C] with orthonormal rows, `gains` [C, H, W]: x -> R^T F^-1(gains * F(R (x - mean))),
    where R mixes the channels of each pixel and F is the orthonormal two-dimensional DCT-II of each component.
    Frequencies rise along H and W. R and F are orthonormal, so the inverse has the same form, with 1/gains.

    The statistics of photographs hardly depend on the position in the image. The eigenvectors of such covariances are
    close to the discrete cosine transform (Ahmed, Natarajan and Rao, "Discrete Cosine Transform", IEEE Transactions on
    Computers, 1974), which need not be stored. docs/tried.md compares the result with ZCA.
    """

    mean: Tensor
    rotation: Tensor
    gains: Tensor
    kind: ClassVar[str] = "spectral"

    def __post_init__(self) -> None:
        shapes = list(self.mean.shape), list(self.rotation.shape), list(self.gains.shape)
        channels = self.mean.numel()
        if self.mean.ndim != 1 or self.gains.ndim != 3 or shapes[1] != [channels] * 2 or len(self.gains) != channels:
            raise ValueError("mean must be [C], rotation [C, C] and gains [C, H, W], not {}, {} and {}".format(*shapes))
        require_usable_scales("gains", self.gains)
        require_orthonormal(self.rotation, name="rotation")

    @classmethod
    def fit(cls, pixels: Tensor | NDArray[Any], *, ridge: float = 0.1) -> Self:
        """Fit to images [N, C, H, W], floats in 0..1 or bytes in 0..255, by the variances of their DCT coefficients.

        `ridge` is added to every variance, in units of the mean variance. Raises InvalidDataset for images that do not
        vary enough for this ridge.
        """
        mean, moments = _moments(pixels)
        rotation = torch.linalg.eigh(moments.mean(dim=(2, 3))).eigenvectors.T.flip(0)
        variances = torch.einsum("ki,kj,ijhw->khw", rotation, rotation, moments).clamp(min=0)
        ridged = variances + ridge * variances.mean()
        if ridged.min() < SMALLEST**2:
            raise InvalidDataset(f"the images do not vary in every frequency; whiten with a ridge above {ridge:g}")
        return cls(mean=mean.float(), rotation=rotation.float().contiguous(), gains=ridged.rsqrt().float())

    def to_model(self, pixels: Tensor) -> Tensor:
        return self._scale(pixels - per_channel(self.mean, pixels), self.gains.to(pixels))

    def to_pixels(self, images: Tensor) -> Tensor:
        return self._scale(images, 1 / self.gains.to(images)) + per_channel(self.mean, images)

    def _scale(self, images: Tensor, gains: Tensor) -> Tensor:
        rotation = self.rotation.to(images)
        rows, columns = (cosines(size).to(images) for size in gains.shape[1:])
        components = torch.einsum("kc,nchw->nkhw", rotation, images)
        scaled = gains * (rows @ components @ columns.T)
        return torch.einsum("kc,nkhw->nchw", rotation, rows.T @ scaled @ columns)

    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        return image_shape == tuple(self.gains.shape)

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "rotation": self.rotation, "gains": self.gains}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(mean=tensors["mean"], rotation=tensors["rotation"], gains=tensors["gains"])


def cosines(size: int) -> Tensor:
    """The orthonormal DCT-II of `size` numbers as a matrix [frequency, position], float64 on the CPU."""
    steps = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * steps[:, None] * (steps + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def _moments(pixels: Tensor | NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Mean [C] of images [N, C, H, W], and the covariance of their channels at each frequency [C, C, H, W]."""
    mean = chunked_mean(pixels, lambda images: images.mean(dim=(2, 3)))
    moments = torch.zeros(())
    for chunk in chunks(pixels):  # a second pass: products of centred images do not cancel
        rows, columns = (cosines(size) for size in chunk.shape[2:])
        coefficients = rows @ (chunk - per_channel(mean, chunk)) @ columns.T
        moments = moments + torch.einsum("nihw,njhw->ijhw", coefficients, coefficients)
    return mean, moments / len(pixels)
