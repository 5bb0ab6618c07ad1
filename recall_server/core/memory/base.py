"""AXIS 1 of the design: how stored tensors become images.

A memory is a linear map from a query vector to `rows` images (paper, section 4: x_i = (y A_i) B). A query is a
one-hot label, a mixture of labels, or image features; the memory does not care which. Classes are abstract or
final: a new container is a new file with a new final class, never a subclass of a final one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

from torch import Tensor

from recall_server.core.memory.combinations import LazyImages


class AbstractMemory(ABC):
    """Stored tensors that answer query vectors with images in model space (standardised or whitened)."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def query_size(self) -> int:
        """d_y, the length of a query vector."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """r, the number of images that one query recalls."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a recalled image."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by their documented names; what is learned is what is stored."""

    @abstractmethod
    def geometry(self) -> dict[str, int]:
        """The numbers, besides the tensors, that are needed to rebuild this memory (manifest: `memory`)."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], geometry: Mapping[str, int]) -> Self:
        """Rebuild a memory; raises ValueError, with a sentence, when shapes disagree."""

    @abstractmethod
    def recall(self, queries: Tensor) -> Tensor:
        """Recall every row of every query: [Q, d_y] -> [Q, r, C, H, W], differentiable in queries and tensors."""

    def recall_lazily(self, queries: Tensor) -> Tensor | LazyImages:
        """The same to rounding for whoever looks at some rows at a time, made at once only where that costs nothing."""
        return self.recall(queries)

    @abstractmethod
    def select_rows(self, rows: Tensor) -> Self:
        """The memory of these rows only [n], in this order, so that no other row need be computed."""

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """The dimensions of a tensor of which each index has a scale of its own, where it is stored as int8.

        The first one, unless a memory has better reasons; numbers that share a scale should be alike in size.
        """
        return (0,)

    def stored_numbers(self) -> int:
        """How many numbers the memory keeps: what the budget counts (paper, section 4)."""
        return sum(tensor.numel() for tensor in self.tensors().values())

    def replace(self, tensors: Mapping[str, Tensor]) -> Self:
        """The same memory over other tensors, for example leaves that require a gradient."""
        return type(self).from_tensors(tensors, self.geometry())
