"""Standardisation: each channel gets mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from numpy.typing import NDArray
from torch import Tensor

from recall_server.core.preprocessing.base import AbstractPreprocessing
from recall_server.core.preprocessing.invertible import SMALLEST, require_usable_scales
from recall_server.core.preprocessing.statistics import chunks


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
        require_usable_scales("deviation", self.deviation)

    @classmethod
    def fit(cls, pixels: Tensor | NDArray[Any]) -> Self:
        """Fit to images [N, C, H, W], floats in 0..1 or bytes in 0..255.

        A constant channel gets a deviation of 1. Raises InvalidDataset for no images or for values that are not
        finite.
        """
        count = 0
        total = torch.zeros(())
        squares = torch.zeros(())
        for chunk in chunks(pixels):
            count += chunk.numel() // chunk.shape[1]
            total = total + chunk.sum(dim=(0, 2, 3))
            squares = squares + chunk.square().sum(dim=(0, 2, 3))
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        deviation = torch.where(deviation < SMALLEST, torch.ones_like(deviation), deviation)
        return cls(mean=mean.float(), deviation=deviation.float())

    def to_model(self, pixels: Tensor) -> Tensor:
        return (pixels - per_channel(self.mean, pixels)) / per_channel(self.deviation, pixels)

    def to_pixels(self, images: Tensor) -> Tensor:
        return images * per_channel(self.deviation, images) + per_channel(self.mean, images)

    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        return image_shape[0] == self.mean.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "deviation": self.deviation}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(mean=tensors["mean"], deviation=tensors["deviation"])


def per_channel(values: Tensor, images: Tensor) -> Tensor:
    """[C] -> [C, 1, 1] with the dtype and device of `images`."""
    return values.to(images).view(-1, 1, 1)
