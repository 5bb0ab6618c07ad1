"""Sums over all training pictures, taken in one pass with bounded memory: leading eigenvectors are made from them."""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.preprocessing import Standardise
from recall_server.core.preprocessing.base import SMALLEST
from recall_server.errors import InvalidDataset
from trainer.data.half_resolution import HalfResolution
from trainer.data.splits import Split

GREY = 0.5  # taken off every pixel before summing, so that less is lost to rounding
LARGEST = 3072  # numbers of a half-resolution image whose moments fit into memory: 64 x 64 pictures in colour


class SecondMoments:
    """Moments of pictures in pixel space, and from them those in standardised space, without seeing a picture twice.

    Call it with pictures of one shape, any number of times. Sums of many are kept in float64. For pictures of more than
    LARGEST half-resolution numbers only the channels' moments are summed, and `standardised` gives None.
    """

    def __init__(self) -> None:
        self.count = 0
        self._half: HalfResolution | None = None
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

    def _begin(self, pixels: Tensor) -> HalfResolution:
        channels, height, width = pixels.shape[1:]
        self._half = HalfResolution.of(height, width)
        size = channels * self._half.numbers
        self._channel_sums, self._channel_squares = torch.zeros(2, channels, dtype=torch.float64)
        self._numbers_of_channel = height * width
        self._sums = torch.zeros(size, dtype=torch.float64)
        self._products = torch.zeros(size, size, dtype=torch.float64) if size <= LARGEST else None
        return self._half

    def standardise(self) -> Standardise:
        """Mean and deviation of each channel, as `Standardise.fit` finds them; InvalidDataset before any picture."""
        if not self.count:
            raise InvalidDataset("there is nothing to fit without pictures")
        numbers = self.count * self._numbers_of_channel
        mean = self._channel_sums / numbers
        deviation = (self._channel_squares / numbers - mean.square()).clamp(min=0).sqrt()
        deviation = torch.where(deviation < SMALLEST, torch.ones_like(deviation), deviation)
        return Standardise(mean=(mean + GREY).float(), deviation=deviation.float())

    def standardised(self, preprocessing: Standardise) -> Tensor | None:
        """Mean product [p, p] of the coordinates of the pictures in model space; float64, not centred."""
        if self._products is None or self._half is None:
            return None
        ones = torch.ones(1, len(preprocessing.mean), *self._half.size)
        flat = self._half.coordinates(ones).double()[0]  # a picture of ones
        each = self._half.numbers
        shift = (preprocessing.mean.double() - GREY).repeat_interleave(each) * flat
        scale = preprocessing.deviation.double().repeat_interleave(each)
        mean = self._sums / self.count
        product = self._products / self.count  # of 75 MB for the largest: all that follows is done in place
        product.addr_(mean, shift, alpha=-1).addr_(shift, mean, alpha=-1).addr_(shift, shift)
        return product.div_(scale).div_(scale[:, None])
