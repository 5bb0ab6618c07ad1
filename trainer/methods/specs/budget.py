"""The budget of a memory: images per class, divided into bases and rows (paper, section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import BASES
from trainer.methods.specs.memories import MemorySpec
from trainer.methods.specs.problem import MemoryShape


class Size(NamedTuple):
    """The requested size of a memory; None means the default."""

    images_per_class: float | None = None
    bases: int | None = None
    rows: int | None = None


@dataclass(frozen=True)
class MemoryBudget:
    """The budget of a memory: N images per class, as K bases (0 for a memory without bases) and r rows.

    `file_bytes` is the largest size of the file, if the budget is in bytes.
    """

    images_per_class: float
    bases: int
    rows: int
    file_bytes: int | None = None

    @classmethod
    def fit(
        cls, spec: MemorySpec, shape: MemoryShape, *, images_per_class: float, bases: int, rows: int | None
    ) -> MemoryBudget:
        """The budget with `rows`, or with as many as fit. Raises ValueError, with the largest K that fits."""
        bases = spec.size(bases)
        allowed = images_per_class * shape.classes * shape.image_numbers
        rows = spec.largest(shape, allowed, bases) if rows is None else rows
        if rows >= 1 and spec.numbers(shape, bases, rows) <= allowed:
            return cls(images_per_class, bases, rows)
        least = rows if rows >= 1 else spec.multiple()
        if not bases:
            needed = spec.numbers(shape, bases, least) / (shape.classes * shape.image_numbers)
            raise ValueError(
                f"{least} stored items of each class do not fit in {images_per_class:g} images per class; with "
                f"{spec.targets} targets they take {math.ceil(10_000 * needed) / 10_000:g}"
            )
        fixed = spec.target_numbers(shape, least)
        most = int((allowed - fixed) // (spec.stored_numbers(shape) + shape.query_size * least))
        advice = f"with at most {most} bases" if most > 0 else "with more images per class"
        raise ValueError(
            f"{bases} bases and {least} rows do not fit in {images_per_class:g} images per class; try {advice}"
        )

    @classmethod
    def of_bundle(cls, bundle: MemoryBundle, size: Size) -> MemoryBudget:
        """The budget of the bundle to continue. Raises ValueError if another one is requested."""
        memory, claimed = bundle.memory, bundle.manifest.budget.images_per_class
        stored = len(memory.span()) if BASES in memory.traits else 0
        for name, asked, given in (
            ("--images-per-class", size.images_per_class, claimed),
            ("--bases", size.bases, stored),
            ("--rows", size.rows, memory.rows),
        ):
            if asked is not None and asked != given:
                raise ValueError(
                    f"{name} is {asked:g}, but the bundle {bundle.manifest.name} has {given:g}; leave it out"
                )
        return cls(claimed, stored, memory.rows)
