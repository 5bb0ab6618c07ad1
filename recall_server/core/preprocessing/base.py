"""The interface of a preprocessing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

from torch import Tensor


class AbstractPreprocessing(ABC):
    """An invertible map between pixel space and model space, on images [N, C, H, W]."""

    kind: ClassVar[str]

    @abstractmethod
    def to_model(self, pixels: Tensor) -> Tensor:
        """Pixel space [N, C, H, W] -> model space, with the same shape, dtype and device; differentiable."""

    @abstractmethod
    def to_pixels(self, images: Tensor) -> Tensor:
        """Model space [N, C, H, W] -> pixel space: the exact inverse of `to_model`, not clipped to 0..1."""

    @abstractmethod
    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        """Whether the map accepts images of shape (channels, height, width)."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The tensors needed to rebuild this map; a bundle stores each as `preprocessing.<name>`."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Rebuild the map from `tensors()`. Raises ValueError if it would not be invertible."""
