"""A generator of images from noise and labels (generative teaching networks, Such et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

from torch import Tensor
from torch.nn.functional import leaky_relu

from recall_server.core.memory.base import Setting
from recall_server.core.memory.decoded.base import AbstractDecoded, stored_size
from recall_server.core.memory.decoded.decoders import SLOPE, Decoders
from recall_server.core.memory.targets import Targets


@final
@dataclass(frozen=True, eq=False)
class ImageGenerator(AbstractDecoded):
    """`noise` [r, z] has a vector for each row. The code of row i for a query y has m = c h w numbers:

        leaky(noise_i N + y L + b),   with `noise_weight` N [z, m], `label_weight` L [d_y, m] and `bias` b [1, m].

    One decoder turns the code into an image.
    """

    noise: Tensor
    noise_weight: Tensor
    label_weight: Tensor
    bias: Tensor
    decoders: Decoders
    height: int
    width: int
    kind: ClassVar[str] = "generator"

    def check(self) -> None:
        numbers, shapes = math.prod(self.code_shape), [list(each.shape) for each in self._dense()]
        fit = self.noise.ndim == self.label_weight.ndim == 2 and self.decoders.shape.count == 1
        wanted = [self.noise_weight.shape == (self.noise.shape[-1], numbers), self.bias.shape == (1, numbers)]
        if not fit or not all(wanted) or self.label_weight.shape[1] != numbers:
            raise ValueError(
                f"a generator has noise [r, z], weights [z, {numbers}] and [labels, {numbers}], a bias [1, {numbers}] "
                f"and one decoder, not {', '.join(map(str, shapes))} and {self.decoders.shape.count} decoders"
            )

    def _dense(self) -> tuple[Tensor, ...]:
        return self.noise, self.noise_weight, self.label_weight, self.bias

    @property
    def query_size(self) -> int:
        return self.label_weight.shape[0]

    @property
    def rows(self) -> int:
        return self.noise.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        dense = dict(zip(("noise", "noise.weight", "label.weight", "bias"), self._dense(), strict=True))
        return dense | self.decoders.tensors() | self.targets.tensors()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Setting]) -> Self:
        targets = Targets.from_tensors(tensors, settings["targets"])
        height, width = stored_size(settings)
        return cls(
            noise=tensors["noise"],
            noise_weight=tensors["noise.weight"],
            label_weight=tensors["label.weight"],
            bias=tensors["bias"],
            decoders=Decoders.from_tensors(tensors),
            height=height,
            width=width,
            targets=targets,
        )

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """One scale per row of a matrix, and one per filter of the decoder."""
        several = name.startswith("decoders.") and name.endswith(".weight") or name == "targets"
        return (0, 1) if several else (0,)

    def codes(self, queries: Tensor) -> Tensor:
        inside = (self.noise @ self.noise_weight).unsqueeze(0) + (queries @ self.label_weight).unsqueeze(1) + self.bias
        return leaky_relu(inside, SLOPE).reshape(len(queries), self.rows, *self.code_shape)
