"""Standardisation followed by attenuation of everything outside the span of a memory's bases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from recall_server.core.preprocessing.base import AbstractPreprocessing
from recall_server.core.preprocessing.invertible import require_orthonormal, require_usable_scales
from recall_server.core.preprocessing.standardise import Standardise

REST = 0.2  # the factor for what lies outside the span (docs/tried.md has figures)
SMALLEST_SHARE = 1e-10  # of the largest eigenvalue: below it, a basis depends linearly on the others


@final
@dataclass(frozen=True, eq=False)
class Projected(AbstractPreprocessing):
    """Standardised images z -> D^T D z + rest * (z - D^T D z), with orthonormal rows D = `directions` [k, C * H * W].

    Everything that a memory recalls lies in the span of its enlarged bases, so recalled images pass unchanged. Real
    pictures have components outside that span, which mislead a classifier that was trained on recalled images only.
    The map is invertible because `rest` [] is above zero.

    A bundle does not store the directions, because they follow from its bases. A classifier stores them.
    """

    standard: Standardise
    directions: Tensor
    rest: Tensor
    kind: ClassVar[str] = "projected"

    def __post_init__(self) -> None:
        if self.directions.ndim != 2 or self.rest.ndim != 0:
            raise ValueError("directions must be [k, d] and rest a single number")
        require_usable_scales("rest", self.rest)
        require_orthonormal(self.directions)

    @classmethod
    def onto(cls, images: Tensor, standard: Standardise, rest: float | Tensor = REST) -> Self:
        """The projection onto the span of enlarged bases [K, C, H, W], given in the model space of `standard`."""
        return cls(standard, _orthonormal(images.flatten(1)), torch.as_tensor(rest))

    def to_model(self, pixels: Tensor) -> Tensor:
        return self._attenuate(self.standard.to_model(pixels), self.rest)

    def to_pixels(self, images: Tensor) -> Tensor:
        return self.standard.to_pixels(self._attenuate(images, 1 / self.rest))

    def _attenuate(self, images: Tensor, rest: Tensor) -> Tensor:
        """rest * z + (1 - rest) * D^T D z, an equal form with one product fewer."""
        flat, directions, share = images.flatten(1), self.directions.to(images), rest.to(images)
        within = (flat @ directions.T) @ directions
        return (share * flat + (1 - share) * within).view_as(images)

    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        channels, height, width = image_shape
        return self.standard.fits(image_shape) and self.directions.shape[1] == channels * height * width

    def tensors(self) -> dict[str, Tensor]:
        return self.standard.tensors() | {"directions": self.directions, "rest": self.rest}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(Standardise.from_tensors(tensors), tensors["directions"], tensors["rest"])


def _orthonormal(rows: Tensor) -> Tensor:
    """[K, d] -> [k, d]: orthonormal rows with the same span, of rank k. Decomposes the K x K matrix in float64."""
    exact = rows.double()
    eigenvalues, vectors = torch.linalg.eigh(exact @ exact.T)
    kept = eigenvalues > max(float(eigenvalues[-1]), 0.0) * SMALLEST_SHARE
    directions: Tensor = (vectors[:, kept] / eigenvalues[kept].sqrt()).T @ exact
    return directions.float().contiguous()


def unprojected(preprocessing: AbstractPreprocessing) -> AbstractPreprocessing:
    """The preprocessing without its projection: for real images, and for a memory whose bases will change."""
    return preprocessing.standard if isinstance(preprocessing, Projected) else preprocessing
