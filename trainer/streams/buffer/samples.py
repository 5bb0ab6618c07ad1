"""Real samples of the current task in the buffer, stored as coefficients.

The paper stores pictures: a grey picture of 28x28 takes 784 numbers. As coefficients of the K leading directions of the
samples seen it takes K, and the directions are stored once, so that the last task of a stream of 20 keeps about 300
samples instead of 10. The directions are updated with every minibatch (incremental singular value decomposition;
Brand, 2002), and the stored coefficients are transformed accordingly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainer.data.enlargement import Enlargement
from trainer.starts.few_samples import unit_rows
from trainer.streams.buffer.reservoir import AbstractSamples, Reservoir


@final
class CodedSamples(AbstractSamples):
    """Samples stored as coefficients of at most `directions` orthonormal directions in the range of `plane`.

    If `free` is small, there are fewer directions, so that at least `least` samples fit.
    """

    def __init__(  # noqa: PLR0917
        self,
        free: int,
        image_shape: tuple[int, int, int],
        generator: torch.Generator,
        plane: Enlargement,
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
        # Contiguous, like a restored state: products with another memory layout may round differently.
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
        """Coefficients [n, k] -> [n, K], with zeros for the directions that do not exist yet."""
        return pad(codes, (0, self._most - codes.shape[1]))
