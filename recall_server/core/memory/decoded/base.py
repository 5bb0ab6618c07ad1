"""The base class of memories with decoded images: the size of the images, and the stored decoders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from recall_server.core.memory.base import AbstractMemory, Setting, chosen_rows
from recall_server.core.memory.decoded.decoders import Decoders, code_size
from recall_server.core.memory.resizing import size_of, size_settings


class AbstractDecoded(AbstractMemory):
    """`decoders` turn codes into images of `height` x `width`. Subclasses are frozen dataclasses with these fields.

    A mixture of labels mixes codes, not images, so the memory is not linear.
    """

    traits: ClassVar[frozenset[str]] = frozenset()
    decoders: Decoders
    height: int
    width: int

    @abstractmethod
    def codes(self, queries: Tensor) -> Tensor:
        """Codes [q, n, c, h, w] of queries [q, d_y]."""

    @property
    def item_shape(self) -> tuple[int, ...]:
        return self.decoders.shape.channels, self.height, self.width

    @property
    def code_shape(self) -> tuple[int, int, int]:
        """(c, h, w), the shape of a code for images of this size."""
        return self.decoders.shape.code, *code_size(self.height, self.width)

    def settings(self) -> dict[str, Setting]:
        return super().settings() | size_settings((self.height, self.width))

    def numbers_at_once(self) -> int:
        return self.decoders.numbers_at_once(self.height, self.width)

    def items(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        codes = self.codes(queries)
        images = self.decoders(codes.flatten(0, 1), self.height, self.width)  # [q * n, K, C, H, W]
        return chosen_rows(images.reshape(len(queries), self.rows, *self.item_shape), rows)


def stored_size(settings: Mapping[str, Setting]) -> tuple[int, int]:
    """The height and width of images in a manifest. Raises ValueError if they are missing or below 1."""
    height, width = size_of(settings)
    if height is None or width is None or min(height, width) < 1:
        raise ValueError("decoded images have a height and a width of 1 or more")
    return height, width
