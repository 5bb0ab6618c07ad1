"""One stored image per recalled image: the container of classical dataset distillation (Wang et al., 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from recall_server.memory.base import AbstractMemory


@final
@dataclass(frozen=True, eq=False)
class Pixels(AbstractMemory):
    """`images` [d_y, r, C, H, W]: r images for each of d_y labels; a mixture of labels mixes their images."""

    images: Tensor
    kind: ClassVar[str] = "pixels"

    def __post_init__(self) -> None:
        if self.images.ndim != 5:
            raise ValueError(f"images must be [labels, rows, C, H, W], not {list(self.images.shape)}")

    @property
    def query_size(self) -> int:
        return self.images.shape[0]

    @property
    def rows(self) -> int:
        return self.images.shape[1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.images.shape[2], self.images.shape[3], self.images.shape[4]

    def tensors(self) -> dict[str, Tensor]:
        return {"images": self.images}

    def geometry(self) -> dict[str, int]:
        return {}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], geometry: Mapping[str, int]) -> Self:
        return cls(images=tensors["images"])

    def recall(self, queries: Tensor) -> Tensor:
        return torch.einsum("qd,drchw->qrchw", queries, self.images)

    def with_rows(self, rows: Tensor) -> Self:
        return replace(self, images=self.images[:, rows])
