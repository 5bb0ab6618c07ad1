"""ZCA whitening: whitening whose result is still an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from numpy.typing import NDArray
from torch import Tensor

from recall_server.core.preprocessing.base import AbstractPreprocessing
from recall_server.core.preprocessing.invertible import SMALLEST, require_orthonormal, require_usable_scales
from recall_server.core.preprocessing.statistics import chunked_mean, chunks
from recall_server.errors import InvalidDataset


@final
@dataclass(frozen=True, eq=False)
class ZCA(AbstractPreprocessing):
    """ZCA whitening (paper, appendix A.1), optionally with a reduced number of directions.

    `mean` [C, H, W], `directions` [m, d] with orthonormal rows, `gains` [m], `rest` []; with d = C*H*W and x0 the
    flattened pixels minus the mean, x -> D^T (g * (D x0)) + rest * (x0 - D^T D x0). With m = d this is full ZCA.
    With m < d, the m leading eigenvectors have their own gains and everything else shares one. Because the rows are
    orthonormal, the inverse has the same form, with 1/g and 1/rest.

    The paper's code first normalises each image by itself. That is not invertible, so this class does not do it.
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
        require_usable_scales("gains", self.gains)
        require_usable_scales("rest", self.rest)
        require_orthonormal(self.directions)

    @classmethod
    def fit(cls, pixels: Tensor | NDArray[Any], *, ridge: float = 0.1, directions: int | None = None) -> Self:
        """Fit to images [N, C, H, W], floats in 0..1 or bytes in 0..255, by the eigenvectors of their covariance.

        `ridge` is added to every eigenvalue, in units of the mean eigenvalue. `directions` is the number of leading
        eigenvectors to keep (None: all). Raises ValueError for a number of directions outside 1..d, and
        InvalidDataset for images that do not vary enough for this ridge.
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


def _moments(pixels: Tensor | NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Mean [C, H, W] and covariance [d, d] of images [N, C, H, W], in float64."""
    mean = chunked_mean(pixels)
    covariance = torch.zeros(mean.numel(), mean.numel(), dtype=torch.float64)
    for chunk in chunks(pixels):  # a second pass: products of centred images do not cancel
        centred = (chunk - mean).flatten(1)
        covariance.addmm_(centred.T, centred)
    return mean, covariance / len(pixels)
