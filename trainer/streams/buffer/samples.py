"""How the buffer keeps real samples of the task that is under way: as they are, or as coefficients.

As they are is the paper's way: a grey picture of 28x28 takes 784 numbers. Over the K leading directions of what was
seen it takes K, and the directions are paid for once, so that the last task of a stream of 20 keeps some 300 samples
where 10 would fit. The directions follow the stream minibatch by minibatch (incremental singular value decomposition;
Brand, 2002), and what was kept is carried along.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainer.data.half_resolution import HalfResolution
from trainer.streams.buffer.reservoir import Reservoir


class AbstractSamples(ABC):
    """Samples of one task, drawn from all that came by reservoir sampling, in model space."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are now."""

    @abstractmethod
    def offer(self, images: Tensor, labels: Tensor) -> None:
        """Take in some of the samples [n, C, H, W] with labels [n], or none of them."""

    @abstractmethod
    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """`count` different samples [n, C, H, W] with labels [n] at random, or all of them where there are fewer."""

    @abstractmethod
    def numbers(self) -> int:
        """How many numbers they take."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All that must be kept to go on later; the generator is its owner's."""

    @abstractmethod
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where `tensors` left off; raises KeyError or ValueError for what is not its state."""


@final
class RawSamples(AbstractSamples):
    """As they are: as many as `free` numbers hold."""

    def __init__(self, free: int, image_shape: tuple[int, int, int], generator: torch.Generator) -> None:
        channels, height, width = image_shape
        self._kept = Reservoir(max(0, free) // (channels * height * width), image_shape, generator)

    def __len__(self) -> int:
        return len(self._kept)

    def offer(self, images: Tensor, labels: Tensor) -> None:
        self._kept.offer(images, labels)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        return self._kept.draw(count)

    def numbers(self) -> int:
        return self._kept.values.numel()

    def tensors(self) -> dict[str, Tensor]:
        return self._kept.tensors()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._kept.restore(tensors)


@final
class CodedSamples(AbstractSamples):
    """As coefficients over at most `directions` orthonormal directions within what `plane` can store.

    Where `free` numbers are few there are fewer directions, so that `least` samples find room.
    """

    def __init__(  # noqa: PLR0917
        self,
        free: int,
        image_shape: tuple[int, int, int],
        generator: torch.Generator,
        plane: HalfResolution,
        directions: int,
        least: int,
    ) -> None:
        self._shape, self._plane = image_shape, plane
        size = image_shape[0] * plane.numbers
        self._most = min(directions, size, max(0, free) // (size + least))
        room = (free - self._most * size) // self._most if self._most else 0
        self._weighted = torch.zeros(0, size)  # [at most K, p]: directions times their singular values
        self._kept = Reservoir(room, (self._most,), generator)

    def __len__(self) -> int:
        return len(self._kept)

    def offer(self, images: Tensor, labels: Tensor) -> None:
        if not self._most:
            return
        coordinates = self._plane.coordinates(images)
        before = unit_rows(self._weighted)
        _, values, vectors = torch.linalg.svd(torch.cat([self._weighted, coordinates]), full_matrices=False)
        # Row by row, as a state that is read again is: products of another layout may round otherwise.
        self._weighted = (values[: self._most, None] * vectors[: self._most]).contiguous()
        after = unit_rows(self._weighted)
        self._kept.values = self._filled(self._kept.values[:, : len(before)] @ (before @ after.T))
        self._kept.offer(self._filled(coordinates @ after.T), labels)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        codes, labels = self._kept.draw(count)
        directions = unit_rows(self._weighted)
        grid = (codes[:, : len(directions)] @ directions).view(-1, self._shape[0], *self._plane.stored_size)
        return self._plane.rows @ grid @ self._plane.columns.T, labels

    def numbers(self) -> int:
        return self._weighted.numel() + self._kept.values.numel()

    def tensors(self) -> dict[str, Tensor]:
        directions = {"weighted": self._weighted} if len(self._weighted) else {}
        return directions | self._kept.tensors()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._kept.restore(tensors)
        self._weighted = tensors.get("weighted", self._weighted[:0]).clone()

    def _filled(self, codes: Tensor) -> Tensor:
        """[n, k] -> [n, K], with zeros for directions that are not there yet."""
        return pad(codes, (0, self._most - codes.shape[1]))


def unit_rows(weighted: Tensor) -> Tensor:
    """Rows [k, p] brought to unit length; those without length, which come last, are left out."""
    norms = weighted.norm(dim=1)
    used = norms > 1e-6 * norms.max() if len(norms) else norms > 0
    unit: Tensor = weighted[used] / norms[used, None]
    return unit


def full_resolution(height: int, width: int) -> HalfResolution:
    """Where bases are stored as large as pictures, enlarging them changes nothing."""
    rows, columns = torch.eye(height), torch.eye(width)
    return HalfResolution(rows, rows, columns, columns)
