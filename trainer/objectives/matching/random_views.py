"""Random views of pictures, as classifiers of photographs are trained on: crops, mirror images and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

WIDEST: Final = 4 / 3  # width of a crop divided by its height, or the reverse
NOISY: Final = 0.5  # share of views with noise


@final
@dataclass(frozen=True)
class RandomViews:
    """Crops of between `smallest` and all of the area, at `size` x `size` pixels; half of them mirrored.

    Half of them have Gaussian noise with the deviation `noise`. Differentiable in the pictures.
    """

    size: int
    smallest: float
    noise: float

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """A view [n, C, size, size] of each picture [n, C, H, W] in 0..1, clipped to 0..1."""
        count, channels = pixels.shape[:2]
        grid = affine_grid(self._crops(count, generator).to(pixels), [count, channels, self.size, self.size], False)
        views = grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        noisy = (torch.rand(count, 1, 1, 1, generator=generator) < NOISY) * self.noise
        return (views + (noisy * torch.randn(views.shape, generator=generator)).to(pixels)).clamp(0, 1)

    def _crops(self, count: int, generator: torch.Generator) -> Tensor:
        """[count, 2, 3]: coordinates of a view, -1 to 1, -> coordinates of the picture."""
        area, ratio, mirror, right, down = torch.rand(5, count, generator=generator)
        area, ratio = self.smallest + (1 - self.smallest) * area, torch.exp(math.log(WIDEST) * (2 * ratio - 1))
        width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        crops = torch.zeros(count, 2, 3)
        crops[:, 0, 0], crops[:, 1, 1] = torch.where(mirror < 1 / 2, -width, width), height
        crops[:, 0, 2], crops[:, 1, 2] = (1 - width) * (2 * right - 1), (1 - height) * (2 * down - 1)
        return crops
