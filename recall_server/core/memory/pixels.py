"""One stored image per recalled image: the container of classical dataset distillation (Wang et al., 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from recall_server.core.memory.base import AbstractMemory


@final
@dataclass(frozen=True, eq=False)
class Pixels(AbstractMemory):
    """`images` [d_y, r, C, h, w]: r images for each of d_y labels; a mixture of labels mixes their images.

    They are recalled as they are stored, or enlarged bilinearly to (height, width) where these are given.
    """

    images: Tensor
    height: int | None = None
    width: int | None = None
    kind: ClassVar[str] = "pixels"

    def __post_init__(self) -> None:
        if self.images.ndim != 5:
            raise ValueError(f"images must be [labels, rows, C, H, W], not {list(self.images.shape)}")
        _, height, width = self.image_shape
        if (self.height is None) != (self.width is None):
            raise ValueError("images are enlarged to a height and a width; give both or neither")
        if height < self.images.shape[3] or width < self.images.shape[4]:
            raise ValueError(
                f"stored images of {self.images.shape[3]}x{self.images.shape[4]} are larger than "
                f"the images of {height}x{width}"
            )

    @property
    def query_size(self) -> int:
        return self.images.shape[0]

    @property
    def rows(self) -> int:
        return self.images.shape[1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[2:]
        return channels, self.height or height, self.width or width

    def tensors(self) -> dict[str, Tensor]:
        return {"images": self.images}

    def geometry(self) -> dict[str, int]:
        return {} if self.height is None or self.width is None else {"height": self.height, "width": self.width}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], geometry: Mapping[str, int]) -> Self:
        return cls(images=tensors["images"], height=geometry.get("height"), width=geometry.get("width"))

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """A scale for each image."""
        return 0, 1

    def recall(self, queries: Tensor) -> Tensor:
        mixed = torch.einsum("qd,drchw->qrchw", queries, self.images)
        _, *size = self.image_shape
        if mixed.shape[3:] == tuple(size):
            return mixed
        enlarged = interpolate(mixed.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
        return enlarged.reshape(*mixed.shape[:3], *size)

    def select_rows(self, rows: Tensor) -> Self:
        return replace(self, images=self.images[:, rows])
