"""Memory specs: the container, its largest size within a budget, and its number format in files."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from recall_server.core.memory import (
    MEMORIES,
    AbstractMemory,
    AddressedBases,
    Hallucinators,
    MultiFormation,
    Storage,
    StoredItems,
    TargetForm,
    initial_targets,
)
from trainer.data.enlargement import Enlargement
from trainer.methods.specs.problem import MemoryShape
from trainer.methods.specs.spec import Count, Spec, comma_separated, member_of
from trainer.starts.decoded.hallucinators import hallucinator_shapes, random_hallucinators
from trainer.starts.random import Initialisation, half_resolution, noise_start


class MemorySpec(Spec):
    """A container. `targets` are hard or learned, one `targets_per` label or item. `frozen` tensors are not trained.

    `resolution` is that of stored images; half resolution is enlarged on recall.
    """

    noun: ClassVar[str] = "memory"
    memory: ClassVar[type[AbstractMemory]]
    resolution: Literal["half", "full"] = "half"
    targets: TargetForm = "hard"
    targets_per: Literal["label", "item"] = "label"
    frozen: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = ()
    storage: Storage = "float32"

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register the memory, so that bundles of it can be read."""
        super().__pydantic_init_subclass__(**kwargs)
        if "memory" in vars(cls):
            MEMORIES.setdefault(cls.memory.kind, cls.memory)

    @abstractmethod
    def numbers(self, shape: MemoryShape, bases: int, rows: int) -> int:
        """The number of stored numbers of a memory of this size, including its targets."""

    def multiple(self) -> int:
        """The rows of a memory are a multiple of this number."""
        return 1

    def largest(self, shape: MemoryShape, allowed: float, bases: int) -> int:
        """The largest number of rows with at most `allowed` stored numbers; below 1 if none fits."""
        fixed, multiple = self.numbers(shape, bases, 0), self.multiple()
        return multiple * int((allowed - fixed) // (self.numbers(shape, bases, multiple) - fixed))

    @abstractmethod
    def noise(
        self, shape: MemoryShape, bases: int, rows: int, initialisation: Initialisation, generator: torch.Generator
    ) -> AbstractMemory:
        """A random memory of this size, with hard targets."""

    def holding(self, items: Tensor) -> AbstractMemory:
        """The memory that stores these items [d_y, r, C, H, W] or [d_y, r, D], or the nearest approximation.

        Raises ValueError for a memory without the trait `items`.
        """
        raise ValueError(f"a memory {self.kind} does not store items one by one; use memory=stored_items")

    def size(self, bases: int) -> int:
        """The number of bases for the requested `bases`. Raises ValueError for an impossible one."""
        return 0

    def stored_shape(self, shape: MemoryShape) -> tuple[int, ...]:
        """The shape of a stored item."""
        return shape.item_shape if self.resolution == "full" else half_resolution(shape.item_shape)

    def stored_numbers(self, shape: MemoryShape) -> int:
        """The number of numbers in a stored item."""
        return math.prod(self.stored_shape(shape))

    def target_numbers(self, shape: MemoryShape, rows: int) -> int:
        """The number of numbers in the targets."""
        if self.targets == "hard":
            return 0
        return shape.classes**2 * (rows if self.targets_per == "item" else 1)

    def finished(self, memory: AbstractMemory) -> AbstractMemory:
        """The memory with the targets and frozen tensors of this spec.

        Raises ValueError for unknown names, and for hard targets if the memory has learned ones.
        """
        if memory.targets.form == "hard":
            shared = 1 if self.targets_per == "label" else memory.rows
            memory = memory.with_targets(initial_targets(self.targets, memory.query_size, shared))
        elif memory.targets.form != self.targets:
            form = memory.targets.form
            raise ValueError(f"the bundle has {form} targets; keep them with --set memory.targets={form}")
        return memory.with_frozen(self._frozen(memory))

    def _frozen(self, memory: AbstractMemory) -> set[str]:
        """The names of the frozen tensors. A prefix such as `decoders` stands for all tensors `decoders.NAME`."""
        names = {part: {name for name in memory.tensors() if f"{name}.".startswith(f"{part}.")} for part in self.frozen}
        unknown = sorted(part for part, found in names.items() if not found)
        if unknown:
            raise ValueError(f"there is no tensor {unknown[0]!r} to freeze; there are {', '.join(memory.tensors())}")
        return {name for found in names.values() for name in found}


class AddressedBasesSpec(MemorySpec):
    """Bases that all classes share, and addressing matrices (Deng and Russakovsky, 2022)."""

    kind: Literal["addressed_bases"] = "addressed_bases"
    memory: ClassVar[type[AbstractMemory]] = AddressedBases

    def size(self, bases: int) -> int:
        if bases < 1:
            raise ValueError(f"a memory needs one basis or more, not {bases}")
        return bases

    def numbers(self, shape: MemoryShape, bases: int, rows: int) -> int:
        return bases * (self.stored_numbers(shape) + rows * shape.query_size) + self.target_numbers(shape, rows)

    def noise(
        self, shape: MemoryShape, bases: int, rows: int, initialisation: Initialisation, generator: torch.Generator
    ) -> AbstractMemory:
        return noise_start(
            shape.item_shape,
            bases=bases,
            rows=rows,
            query_size=shape.query_size,
            generator=generator,
            initialisation=initialisation,
            stored_shape=self.stored_shape(shape),
        )


class StoredItemsSpec(MemorySpec):
    """One stored item per recalled item (Wang et al., 2018)."""

    kind: Literal["stored_items"] = "stored_items"
    memory: ClassVar[type[AbstractMemory]] = StoredItems

    def numbers(self, shape: MemoryShape, bases: int, rows: int) -> int:
        return rows * shape.classes * self.stored_numbers(shape) + self.target_numbers(shape, rows)

    def noise(
        self, shape: MemoryShape, bases: int, rows: int, initialisation: Initialisation, generator: torch.Generator
    ) -> AbstractMemory:
        stored = torch.randn((shape.classes, rows, *self.stored_shape(shape)), generator=generator)
        if self.stored_shape(shape) == shape.item_shape:
            return StoredItems(stored)
        return StoredItems(stored, shape.item_shape[1], shape.item_shape[2])

    def holding(self, items: Tensor) -> AbstractMemory:
        if self.resolution == "full" or items.ndim == 3:
            return StoredItems(items)
        half = Enlargement.from_half(items.shape[3], items.shape[4])
        stored = half.stored(half.coordinates(items.flatten(0, 1)), items.shape[2])
        return StoredItems(stored.reshape(*items.shape[:3], *half.stored_size), items.shape[3], items.shape[4])


class MultiFormationSpec(MemorySpec):
    """Stored images that each hold `factor` x `factor` recalled ones (Kim et al., 2022)."""

    kind: Literal["multi_formation"] = "multi_formation"
    memory: ClassVar[type[AbstractMemory]] = MultiFormation
    resolution: Literal["full"] = "full"
    factor: Count = 2

    def multiple(self) -> int:
        return self.factor**2

    def numbers(self, shape: MemoryShape, bases: int, rows: int) -> int:
        return self._images(rows) * shape.classes * self.stored_numbers(shape) + self.target_numbers(shape, rows)

    def noise(
        self, shape: MemoryShape, bases: int, rows: int, initialisation: Initialisation, generator: torch.Generator
    ) -> AbstractMemory:
        size = shape.classes, self._images(rows), *self.stored_shape(shape)
        return MultiFormation(torch.randn(size, generator=generator), self.factor)

    def holding(self, items: Tensor) -> AbstractMemory:
        return MultiFormation.holding(items, self.factor)

    def _images(self, rows: int) -> int:
        """ValueError for rows that do not fill images."""
        if rows % self.multiple():
            raise ValueError(f"images of {self.factor}x{self.factor} cells recall a multiple of {self.multiple()} rows")
        return rows // self.multiple()


class HallucinatorsSpec(MemorySpec):
    """Bases that `count` hallucinators turn into images (Liu et al., 2022), with filters of `kernel` x `kernel` pixels.

    Bases have as many channels as images, or one, which is their mean.
    """

    kind: Literal["hallucinators"] = "hallucinators"
    memory: ClassVar[type[AbstractMemory]] = Hallucinators
    resolution: Literal["full"] = "full"
    count: Annotated[int, Field(ge=2)] = 5
    channels: Literal["one", "all"] = "all"
    kernel: Count = 3

    def multiple(self) -> int:
        return self.count

    def numbers(self, shape: MemoryShape, bases: int, rows: int) -> int:
        """Raises ValueError if the rows are not a multiple of the hallucinators."""
        if rows % self.count:
            raise ValueError(f"{self.count} hallucinators recall a multiple of {self.count} rows")
        shapes = hallucinator_shapes(self.count, self._channels(shape.item_shape), shape.item_shape, self.kernel)
        own = self._channels(shape.item_shape) * math.prod(shape.item_shape[1:])
        stored = rows // self.count * shape.classes * own
        return stored + sum(map(math.prod, shapes.values())) + self.target_numbers(shape, rows)

    def noise(
        self, shape: MemoryShape, bases: int, rows: int, initialisation: Initialisation, generator: torch.Generator
    ) -> AbstractMemory:
        size = shape.classes, rows // self.count, self._channels(shape.item_shape), *shape.item_shape[1:]
        stored = torch.randn(size, generator=generator)
        return random_hallucinators(stored, shape.item_shape, self.count, self.kernel, generator)

    def holding(self, items: Tensor) -> AbstractMemory:
        """As many of the items as fit, as bases. Hallucinators do not depend on the seed; the chosen items do."""
        bases = items[:, : items.shape[1] // self.count]
        own = bases.mean(dim=2, keepdim=True) if self.channels == "one" else bases
        generator = torch.Generator().manual_seed(0)
        return random_hallucinators(own, items.shape[2:], self.count, self.kernel, generator)

    def _channels(self, item_shape: tuple[int, ...]) -> int:
        return 1 if self.channels == "one" else item_shape[0]


MemoryPart = Annotated[MemorySpec, member_of(MemorySpec)]
