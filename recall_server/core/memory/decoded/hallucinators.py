"""Stored bases that small networks, the hallucinators, turn into images (HaBa, Liu et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from recall_server.core.memory.base import ITEMS, VARIANTS, AbstractMemory, Setting, chosen_rows
from recall_server.core.memory.targets import Targets

NAMES = ("bases", "encoder", "encoder_bias", "scale", "shift", "decoder", "decoder_bias")


@final
@dataclass(frozen=True, eq=False)
class Hallucinators(AbstractMemory):
    """`bases` [d_y, s, c, H, W]: s bases for each of d_y labels, and m hallucinators that all labels share.

    Hallucinator j turns a base b into the image

        D_j * (scale_j (E_j * b + encoder_bias_j) + shift_j) + decoder_bias_j.

    The encoder E [m, C, c, k, k] is a convolution without padding, scale and shift are [m, C, H-k+1, W-k+1], and the
    decoder D [m, C, C, k, k] is a transposed convolution. A label recalls r = s m items; the m items of a base are
    adjacent. A mixture of labels mixes their bases.
    """

    bases: Tensor
    encoder: Tensor
    encoder_bias: Tensor
    scale: Tensor
    shift: Tensor
    decoder: Tensor
    decoder_bias: Tensor
    kind: ClassVar[str] = "hallucinators"
    traits: ClassVar[frozenset[str]] = frozenset({ITEMS, VARIANTS})

    def check(self) -> None:
        shapes = [list(getattr(self, name).shape) for name in NAMES]
        if self.bases.ndim != 5 or self.encoder.ndim != 5 or self.decoder.ndim != 5:
            raise ValueError(
                "bases must be [labels, bases, c, H, W], encoder [m, C, c, k, k] and decoder [m, C, C, k, k], "
                f"not {shapes[0]}, {shapes[1]} and {shapes[5]}"
            )
        (_, _, own, height, width), (count, channels, _, k, _) = self.bases.shape, self.encoder.shape
        inner, biases = [count, channels, height - k + 1, width - k + 1], [count, channels]
        expected = [shapes[0], [count, channels, own, k, k], biases, inner, inner]
        expected += [[count, channels, channels, k, k], biases]
        for name, found, wanted in zip(NAMES, shapes, expected, strict=True):
            if found != wanted:
                raise ValueError(f"{name} must be {wanted} beside bases of {shapes[0]}, not {found}")

    @property
    def query_size(self) -> int:
        return self.bases.shape[0]

    @property
    def rows(self) -> int:
        return self.bases.shape[1] * self.variants

    @property
    def variants(self) -> int:
        """m, the number of hallucinators."""
        return self.encoder.shape[0]

    @property
    def item_shape(self) -> tuple[int, ...]:
        return self.decoder.shape[2], *self.bases.shape[3:]

    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in NAMES} | self.targets.tensors()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Setting]) -> Self:
        targets = Targets.from_tensors(tensors, settings["targets"])
        return cls(*(tensors[name] for name in NAMES), targets=targets)

    @classmethod
    def quantisation_axes(cls, name: str) -> tuple[int, ...]:
        """One scale per base, and one per filter or channel of a hallucinator."""
        return (0,) if name.endswith("_bias") else (0, 1)

    def items(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        mixed = torch.einsum("qd,ds...->qs...", queries, self.bases)
        count, bases, channels, height, width = mixed.shape
        # One convolution encodes for all hallucinators; its outputs are the groups of one transposed convolution.
        encoded = conv2d(mixed.flatten(0, 1), self.encoder.flatten(0, 1), self.encoder_bias.flatten())
        inner = self.scale.flatten(0, 1) * encoded + self.shift.flatten(0, 1)
        images = conv_transpose2d(inner, self.decoder.flatten(0, 1), self.decoder_bias.flatten(), groups=self.variants)
        return chosen_rows(images.view(count, bases * self.variants, *self.item_shape), rows)
