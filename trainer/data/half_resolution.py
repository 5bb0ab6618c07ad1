"""Which half-resolution images enlarge to the pictures at hand: the linear algebra of stored bases.

Recalling enlarges what is stored by a linear map U. Shrinking pictures with an ordinary filter and enlarging them again
gives blurred ones; the stored images whose enlargements come closest, in the least-squares sense, are found in the
range of U itself. U acts on rows and columns alike, so it is the product of two small matrices, and so is everything
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class HalfResolution:
    """An orthonormal basis of all images that can be recalled, for pictures of height x width.

    U = Q R along each side: `rows` is Q [height, h] and `to_rows` the inverse of R [h, h]; likewise for columns.
    """

    rows: Tensor
    to_rows: Tensor
    columns: Tensor
    to_columns: Tensor

    @classmethod
    def of(cls, height: int, width: int) -> Self:
        return cls(*_orthonormal(height), *_orthonormal(width))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a picture."""
        return self.rows.shape[0], self.columns.shape[0]

    @property
    def stored_size(self) -> tuple[int, int]:
        """(h, w) of a stored image."""
        return self.rows.shape[1], self.columns.shape[1]

    @property
    def numbers(self) -> int:
        """h * w, of one channel of a stored image."""
        return self.rows.shape[1] * self.columns.shape[1]

    def coordinates(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> coordinates [N, C * h * w] of the recallable images closest to them."""
        return (self.rows.T @ (images @ self.columns)).flatten(1)

    def stored(self, coordinates: Tensor, channels: int) -> Tensor:
        """Coordinates [K, C * h * w] -> the images [K, C, h, w] to store, which enlarge to what they mean."""
        grid = coordinates.reshape(len(coordinates), channels, *self.stored_size)
        return self.to_rows @ grid @ self.to_columns.T


def _orthonormal(side: int) -> tuple[Tensor, Tensor]:
    """(Q [side, half], the inverse of R [half, half]) of enlarging by bilinear interpolation along one side."""
    half = (side + 1) // 2
    corners = torch.eye(half, dtype=torch.float64).reshape(half, 1, half, 1)
    enlarged = interpolate(corners, size=(side, 1), mode="bilinear", align_corners=False)[
        :, 0, :, 0
    ].T  # U [side, half]
    q, r = torch.linalg.qr(enlarged)
    return q.float(), torch.linalg.inv(r).float()
