"""The largest memory within a budget (paper, section 4)."""

from __future__ import annotations

import pytest

from trainer.methods.specs.memories import AddressedBasesSpec, StoredItemsSpec
from trainer.methods.specs.problem import MemoryShape

GREY, COLOUR, TINY = 28 * 28, 3 * 32 * 32, 3 * 64 * 64


@pytest.mark.parametrize(
    ("images_per_class", "classes", "image_numbers", "bases", "rows"),
    [
        (1, 10, GREY, 8, 78),
        (1, 10, GREY, 16, 29),
        (1, 10, GREY, 32, 4),
        (10, 10, GREY, 64, 102),
        (50, 10, GREY, 1024, 18),
        (1, 10, COLOUR, 16, 115),
        (10, 10, COLOUR, 64, 403),
        (50, 10, COLOUR, 512, 223),
        (1, 100, COLOUR, 256, 4),
        (10, 100, COLOUR, 1024, 22),
        (1, 200, TINY, 64, 176),
    ],
)
def test_the_budget_equation_gives_the_rows_of_the_published_settings(
    images_per_class: int, classes: int, image_numbers: int, bases: int, rows: int
) -> None:
    """K * d/4 + C * r * K <= N * C * d; CIFAR-10 at one image per class with 16 bases is the released command."""
    channels = 1 if image_numbers == GREY else 3
    side = int((image_numbers / channels) ** 0.5)
    shape = MemoryShape(classes, classes, (channels, side, side), image_numbers)
    assert AddressedBasesSpec().largest(shape, images_per_class * classes * image_numbers, bases) == rows


def test_bases_beyond_the_budget_leave_no_rows() -> None:
    shape = MemoryShape(10, 10, (1, 28, 28), GREY)
    assert AddressedBasesSpec().largest(shape, 10 * GREY, 40) == 0
    assert AddressedBasesSpec().largest(shape, 10 * GREY, 64) < 0


def test_targets_count_for_each_item_or_once() -> None:
    shape = MemoryShape(10, 10, (1, 28, 28), GREY)
    each, shared = (StoredItemsSpec(targets="soft", targets_per=per) for per in ("item", "label"))
    assert each.largest(shape, 3 * 10 * GREY // 4 + 3 * 100, 0) == 3
    assert each.largest(shape, 3 * 10 * GREY // 4 + 2 * 100, 0) == 2
    assert shared.largest(shape, 3 * 10 * GREY // 4 + 100, 0) == 3
