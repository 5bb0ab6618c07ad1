"""Stored codes and decoders (KFS, Lee et al., 2022; IT-GAN, Zhao and Bilen, 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from recall_server.core.memory.base import CODES, Setting
from recall_server.core.memory.decoded.base import AbstractDecoded, stored_size
from recall_server.core.memory.decoded.decoders import Decoders
from recall_server.core.memory.targets import Targets


@final
@dataclass(frozen=True, eq=False)
class LatentCodes(AbstractDecoded):
    """`stored` [d_y, n, c, h, w] holds n codes for each of d_y labels.

    Each of K decoders decodes each code, so a query recalls r = n K images.
    """

    stored: Tensor
    decoders: Decoders
    height: int
    width: int
    kind: ClassVar[str] = "latent_codes"
    traits: ClassVar[frozenset[str]] = frozenset({CODES})

    def check(self) -> None:
        if self.stored.ndim != 5 or tuple(self.stored.shape[2:]) != self.code_shape:
            raise ValueError(
                f"codes must be [labels, codes, {', '.join(map(str, self.code_shape))}] for images of "
                f"{self.height}x{self.width}, not {list(self.stored.shape)}"
            )

    @property
    def query_size(self) -> int:
        return self.stored.shape[0]

    @property
    def rows(self) -> int:
        return self.stored.shape[1] * self.decoders.shape.count

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.stored} | self.decoders.tensors() | self.targets.tensors()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Setting]) -> Self:
        targets = Targets.from_tensors(tensors, settings["targets"])
        return cls(tensors["codes"], Decoders.from_tensors(tensors), *stored_size(settings), targets=targets)

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """One scale per code, and one per filter of each decoder."""
        return (0,) if name.endswith(".bias") else (0, 1)

    def codes(self, queries: Tensor) -> Tensor:
        return torch.einsum("qd,dn...->qn...", queries, self.stored)
