"""Pictures as a memory of few bases could have recalled them: what lies outside the span of its bases is faded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from recall_server.core.preprocessing.base import AbstractPreprocessing, require_orthonormal, require_usable_scales
from recall_server.core.preprocessing.standardise import Standardise

REST = 0.2  # how much is left of what lies outside (docs/tried.md has figures)
SMALLEST_SHARE = 1e-10  # of the largest eigenvalue: bases that others make up already add no direction


@final
@dataclass(frozen=True, eq=False)
class Projected(AbstractPreprocessing):
    """Standardised images z -> D^T D z + rest * (z - D^T D z), with orthonormal rows D = `directions` [k, C * H * W].

    All that a memory recalls lies in the span of its enlarged bases, and goes through unchanged where `directions`
    span just that. Real pictures do not lie there, and a classifier that has seen recalled images alone is misled by
    what it has never seen. With `rest` [] above zero nothing is lost that could not be undone.

    A bundle does not store the directions, which follow from its bases; a classifier, which has no bases, does.
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
        """Onto the span of images [K, C, H, W] in the model space of `standard`, as enlarged bases are."""
        return cls(standard, _orthonormal(images.flatten(1)), torch.as_tensor(rest))

    def to_model(self, pixels: Tensor) -> Tensor:
        return self._fade(self.standard.to_model(pixels), self.rest)

    def to_pixels(self, images: Tensor) -> Tensor:
        return self.standard.to_pixels(self._fade(images, 1 / self.rest))

    def _fade(self, images: Tensor, rest: Tensor) -> Tensor:
        """rest * z + (1 - rest) * D^T D z, which is the same."""
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
    """[K, d] -> [k, d] with orthonormal rows of the same span, k its rank. Small matrices only: K by K, in float64."""
    exact = rows.double()
    eigenvalues, vectors = torch.linalg.eigh(exact @ exact.T)
    kept = eigenvalues > max(float(eigenvalues[-1]), 0.0) * SMALLEST_SHARE
    directions: Tensor = (vectors[:, kept] / eigenvalues[kept].sqrt()).T @ exact
    return directions.float().contiguous()


def unprojected(preprocessing: AbstractPreprocessing) -> AbstractPreprocessing:
    """The same model space for images that no memory recalled, and for a memory whose bases are to change."""
    return preprocessing.standard if isinstance(preprocessing, Projected) else preprocessing
