"""How much a memory may store: images per class, split into bases and rows (paper, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import AddressedBases
from recall_server.core.memory.addressed_bases import largest_rows
from trainer.data.datasets import ImageDataset
from trainer.methods.method import Method


class Size(NamedTuple):
    """What is asked of a budget; None is left to the defaults."""

    images_per_class: float | None = None
    bases: int | None = None
    rows: int | None = None


@dataclass(frozen=True)
class MemoryBudget:
    """How much a memory may store: N images per class, as K bases and r rows (paper, section 4).

    Where the budget is one in bytes, `file_bytes` is the most that the file may take.
    """

    images_per_class: float
    bases: int
    rows: int
    file_bytes: int | None = None

    @classmethod
    def fit(
        cls, dataset: ImageDataset, method: Method, *, images_per_class: float, bases: int, rows: int | None
    ) -> MemoryBudget:
        """The largest r that fits unless it is given; ValueError says which K would fit where this one does not."""
        numbers_of_one = base_numbers(dataset, method)
        if method.memory == "stored_items":
            own = images_per_class * dataset.image_numbers - target_numbers(dataset, method) / len(dataset.classes)
            most = int(own / numbers_of_one)
            return cls._of_pixels(images_per_class, rows, most)
        size = query_size(dataset, method)
        allowed = images_per_class * len(dataset.classes) * dataset.image_numbers - target_numbers(dataset, method)
        if bases < 1:
            raise ValueError(f"a memory needs one basis or more, not {bases}")
        if rows is None:
            rows = largest_rows(allowed, query_size=size, base_numbers=numbers_of_one, bases=bases)
        numbers = memory_numbers(dataset, method, bases, rows)
        if rows < 1 or numbers > allowed:
            least = max(rows, 1)
            most = int(allowed // (numbers_of_one + size * least))
            advice = f"with at most {most} bases" if most > 0 else "with more images per class"
            raise ValueError(
                f"{bases} bases and {least} rows do not fit in {images_per_class:g} images per class; try {advice}"
            )
        return cls(images_per_class, bases, rows)

    @classmethod
    def of_bundle(cls, bundle: MemoryBundle, size: Size) -> MemoryBudget:
        """The budget of the bundle that a run goes on from; ValueError where another one is asked for."""
        memory, claimed = bundle.memory, bundle.manifest.budget.images_per_class
        stored = len(memory.bases) if isinstance(memory, AddressedBases) else 0
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

    @classmethod
    def _of_pixels(cls, images_per_class: float, rows: int | None, most: int) -> MemoryBudget:
        rows = most if rows is None else rows
        if not 1 <= rows <= most:
            raise ValueError(
                f"{rows} stored images of each class do not fit in {images_per_class:g} images per class; "
                "a memory of pixels needs one or more"
            )
        return cls(images_per_class, 0, rows)


def base_numbers(dataset: ImageDataset, method: Method) -> int:
    """How many numbers one stored image has: a basis, or a picture of a memory of pixels."""
    height, width = stored_size(dataset, method)
    return dataset.image_shape[0] * height * width


def query_size(dataset: ImageDataset, method: Method) -> int:
    """How many numbers a query has: one for each label, or the features of an encoder."""
    return method.query_size if method.queries == "images" else len(dataset.classes)


def memory_numbers(dataset: ImageDataset, method: Method, bases: int, rows: int) -> int:
    """How many numbers a memory has: bases with their coefficients, or pictures where there are no bases."""
    if bases:
        return bases * (base_numbers(dataset, method) + rows * query_size(dataset, method))
    return rows * len(dataset.classes) * base_numbers(dataset, method)


def target_numbers(dataset: ImageDataset, method: Method) -> int:
    """How many numbers soft targets take: a distribution over all labels for each."""
    return len(dataset.classes) ** 2 if method.targets == "soft" else 0


def stored_size(dataset: ImageDataset, method: Method) -> tuple[int, int]:
    """(h, w) of what is stored."""
    _, height, width = dataset.image_shape
    return (height, width) if method.resolution == "full" else ((height + 1) // 2, (width + 1) // 2)
