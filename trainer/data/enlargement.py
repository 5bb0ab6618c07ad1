"""Least-squares fits of stored images to pictures: the linear algebra of bases that are enlarged when recalled.

Recall enlarges the stored images by a linear map U. Shrinking a picture with an ordinary filter and enlarging it again
blurs it; projecting it onto the range of U gives the stored image whose enlargement is closest in the least-squares
sense. U acts separately on rows and columns, so every operation here is a product with two small matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Enlargement:
    """Bilinear enlarging: an orthonormal basis of the images that can be recalled, for pictures of height x width.

    U = Q R along each side: `rows` is Q [height, h] and `to_rows` the inverse of R [h, h]; likewise for columns. Both
    are the identity for images that are stored at full size.
    """

    rows: Tensor
    to_rows: Tensor
    columns: Tensor
    to_columns: Tensor

    @classmethod
    def of(cls, resolution: Literal["half", "full"], height: int, width: int) -> Self:
        return cls.from_half(height, width) if resolution == "half" else cls(*_identity(height), *_identity(width))

    @classmethod
    def from_half(cls, height: int, width: int) -> Self:
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
        """h * w, the numbers in one channel of a stored image."""
        return self.rows.shape[1] * self.columns.shape[1]

    def coordinates(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> coordinates [N, C * h * w] of the closest images that can be recalled."""
        return (self.rows.T @ (images @ self.columns)).flatten(1)

    def stored(self, coordinates: Tensor, channels: int) -> Tensor:
        """Coordinates [K, C * h * w] -> the images [K, C, h, w] to store, whose enlargements have these coordinates."""
        grid = coordinates.reshape(len(coordinates), channels, *self.stored_size)
        return self.to_rows @ grid @ self.to_columns.T


def _identity(side: int) -> tuple[Tensor, Tensor]:
    return torch.eye(side), torch.eye(side)


def _orthonormal(side: int) -> tuple[Tensor, Tensor]:
    """(Q [side, half], inverse of R [half, half]) of the matrix that enlarges one side by bilinear interpolation."""
    half = (side + 1) // 2
    corners = torch.eye(half, dtype=torch.float64).reshape(half, 1, half, 1)
    enlarged = interpolate(corners, size=(side, 1), mode="bilinear", align_corners=False)[
        :, 0, :, 0
    ].T  # U [side, half]
    q, r = torch.linalg.qr(enlarged)
    return q.float(), torch.linalg.inv(r).float()
