"""Second moments of all training pictures, from one pass with bounded memory; eigenvectors are computed from them."""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.preprocessing import Standardise
from recall_server.core.preprocessing.invertible import SMALLEST
from recall_server.errors import InvalidDataset
from trainer.data.enlargement import Enlargement
from trainer.data.splits import Split

GREY = 0.5  # subtracted from every pixel before summing, which reduces rounding errors
LARGEST = 3072  # numbers of a half-resolution image whose moments fit in memory: 64 x 64 pictures in colour


class SecondMoments:
    """Accumulates moments of pictures in pixel space; `standardised` converts them to standardised space.

    Call it any number of times with pictures of one shape; sums are kept in float64. For pictures of more than LARGEST
    half-resolution numbers, only the moments of the channels are summed and `standardised` returns None.
    """

    def __init__(self) -> None:
        self.count = 0
        self._half: Enlargement | None = None
        self._channel_sums = self._channel_squares = self._sums = torch.zeros(0, dtype=torch.float64)
        self._products: Tensor | None = None

    def __call__(self, split: Split) -> None:
        """Add pictures."""
        if not len(split):
            return
        pixels = split.pixels() - GREY
        half = self._half or self._begin(pixels)
        self.count += len(pixels)
        self._channel_sums += pixels.sum(dim=(0, 2, 3))
        self._channel_squares += pixels.square().sum(dim=(0, 2, 3))
        if self._products is not None:
            coordinates = half.coordinates(pixels)
            self._sums += coordinates.sum(dim=0, dtype=torch.float64)
            self._products += coordinates.T @ coordinates

    def _begin(self, pixels: Tensor) -> Enlargement:
        channels, height, width = pixels.shape[1:]
        self._half = Enlargement.from_half(height, width)
        size = channels * self._half.numbers
        self._channel_sums, self._channel_squares = torch.zeros(2, channels, dtype=torch.float64)
        self._numbers_of_channel = height * width
        self._sums = torch.zeros(size, dtype=torch.float64)
        self._products = torch.zeros(size, size, dtype=torch.float64) if size <= LARGEST else None
        return self._half

    def standardise(self) -> Standardise:
        """Mean and deviation of each channel, as from `Standardise.fit`. Raises InvalidDataset without pictures."""
        if not self.count:
            raise InvalidDataset("the preprocessing cannot be fitted without pictures")
        numbers = self.count * self._numbers_of_channel
        mean = self._channel_sums / numbers
        deviation = (self._channel_squares / numbers - mean.square()).clamp(min=0).sqrt()
        deviation = torch.where(deviation < SMALLEST, torch.ones_like(deviation), deviation)
        return Standardise(mean=(mean + GREY).float(), deviation=deviation.float())

    def standardised(self, preprocessing: Standardise) -> Tensor | None:
        """Second moments [p, p], not centred, of the pictures' coordinates in model space; float64."""
        if self._products is None or self._half is None:
            return None
        ones = torch.ones(1, len(preprocessing.mean), *self._half.size)
        flat = self._half.coordinates(ones).double()[0]  # a picture of ones
        each = self._half.numbers
        shift = (preprocessing.mean.double() - GREY).repeat_interleave(each) * flat
        scale = preprocessing.deviation.double().repeat_interleave(each)
        mean = self._sums / self.count
        product = self._products / self.count  # up to 75 MB, so the operations below work in place
        product.addr_(mean, shift, alpha=-1).addr_(shift, mean, alpha=-1).addr_(shift, shift)
        return product.div_(scale).div_(scale[:, None])
