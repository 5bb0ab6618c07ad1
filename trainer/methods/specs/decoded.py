"""Specs of memories with decoded images, and of their start."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch

from recall_server.core.memory import CODES, AbstractMemory, ImageGenerator, LatentCodes
from recall_server.core.memory.decoded import DecoderShape, code_size, initial_decoders
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.memories import MemorySpec
from trainer.methods.specs.problem import MemoryShape, Problem
from trainer.methods.specs.spec import Count
from trainer.methods.specs.starts import StartSpec
from trainer.starts.decoded.autoencoder import autoencoded
from trainer.starts.random import Initialisation


class DecodedSpec(MemorySpec):
    """Codes have `channels`, and the hidden layers of decoders have `filters`."""

    resolution: Literal["full"] = "full"
    channels: Count = 4
    filters: Count = 8

    def decoder_shape(self, shape: MemoryShape, count: int = 1) -> DecoderShape:
        """The shape of `count` decoders for a data set. Raises ValueError for items that are not images."""
        if len(shape.item_shape) != 3:
            raise ValueError(f"a memory {self.kind} decodes images, not vectors of {shape.item_shape[0]} features")
        return DecoderShape(count, self.channels, self.filters, shape.item_shape[0])

    def code_shape(self, shape: MemoryShape) -> tuple[int, int, int]:
        """(c, h, w), the shape of a code."""
        return self.channels, *code_size(*shape.item_shape[1:])


class LatentCodesSpec(DecodedSpec):
    """Stored codes, each decoded by each of `decoders` (Lee et al., 2022)."""

    kind: Literal["latent_codes"] = "latent_codes"
    memory: ClassVar[type[AbstractMemory]] = LatentCodes
    decoders: Count = 2

    def multiple(self) -> int:
        return self.decoders

    def numbers(self, shape: MemoryShape, bases: int, rows: int) -> int:
        codes = -(-rows // self.decoders) * shape.classes * math.prod(self.code_shape(shape))
        return codes + self.decoder_shape(shape, self.decoders).numbers + self.target_numbers(shape, rows)

    def noise(
        self, shape: MemoryShape, bases: int, rows: int, initialisation: Initialisation, generator: torch.Generator
    ) -> AbstractMemory:
        decoders = initial_decoders(self.decoder_shape(shape, self.decoders), generator)
        size = shape.classes, -(-rows // self.decoders), *self.code_shape(shape)
        return LatentCodes(torch.randn(size, generator=generator), decoders, shape.item_shape[1], shape.item_shape[2])


class GeneratorSpec(DecodedSpec):
    """A generator of images from noise and labels (Such et al., 2020), with at most `most_rows` rows per label."""

    kind: Literal["generator"] = "generator"
    memory: ClassVar[type[AbstractMemory]] = ImageGenerator
    noise_size: Count = 16
    most_rows: Count = 64

    def numbers(self, shape: MemoryShape, bases: int, rows: int) -> int:
        inside = math.prod(self.code_shape(shape)) * (self.noise_size + shape.query_size + 1)
        fixed = inside + self.decoder_shape(shape).numbers
        return fixed + rows * self.noise_size + self.target_numbers(shape, rows)

    def largest(self, shape: MemoryShape, allowed: float, bases: int) -> int:
        return min(self.most_rows, super().largest(shape, allowed, bases))

    def noise(
        self, shape: MemoryShape, bases: int, rows: int, initialisation: Initialisation, generator: torch.Generator
    ) -> AbstractMemory:
        numbers = math.prod(self.code_shape(shape))

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(size, generator=generator)

        return ImageGenerator(
            noise=normal(rows, self.noise_size),
            noise_weight=normal(self.noise_size, numbers) / self.noise_size**0.5,
            label_weight=normal(shape.query_size, numbers),
            bias=torch.zeros(1, numbers),
            decoders=initial_decoders(self.decoder_shape(shape), generator),
            height=shape.item_shape[1],
            width=shape.item_shape[2],
        )


class AutoencoderStart(StartSpec):
    """The codes of random real images, from an autoencoder that is trained on `steps` minibatches."""

    kind: Literal["autoencoder"] = "autoencoder"
    traits: ClassVar[frozenset[str]] = frozenset({CODES})
    steps: Count = 400

    def memory(self, spec: MemorySpec, shape: MemoryShape, budget: MemoryBudget, problem: Problem) -> AbstractMemory:
        drawn = spec.noise(shape, budget.bases, budget.rows, "xavier", problem.generator)
        assert isinstance(drawn, LatentCodes), "no other memory has the trait codes"
        return autoencoded(drawn, problem.training, steps=self.steps)
