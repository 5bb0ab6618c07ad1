"""The budget of images that each hold several recalled ones."""

from __future__ import annotations

import pytest
import torch

from recall_server.core.memory import MultiFormation
from trainer.methods.specs.memories import MultiFormationSpec
from trainer.methods.specs.problem import MemoryShape

SHAPE = MemoryShape(classes=10, query_size=10, item_shape=(3, 8, 8), image_numbers=192)


@pytest.mark.parametrize(("factor", "images_per_class", "rows"), [(2, 1, 4), (2, 2.9, 8), (4, 1, 16), (2, 0.9, 0)])
def test_a_stored_image_of_each_class_recalls_all_of_its_cells(factor: int, images_per_class: float, rows: int) -> None:
    spec = MultiFormationSpec(factor=factor)
    allowed = images_per_class * 10 * 192
    assert spec.largest(SHAPE, allowed, 0) == rows
    assert spec.numbers(SHAPE, 0, rows) <= allowed
    assert spec.numbers(SHAPE, 0, rows + factor**2) > allowed


def test_targets_count_for_each_item_or_once() -> None:
    each, shared = (MultiFormationSpec(targets="soft", targets_per=per) for per in ("item", "label"))
    assert each.largest(SHAPE, 10 * 192 + 4 * 100, 0) == 4
    assert each.largest(SHAPE, 10 * 192 + 3 * 100, 0) == 0
    assert shared.largest(SHAPE, 10 * 192 + 100, 0) == 4


def test_rows_that_fill_no_whole_image_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 2x2 cells recall a multiple of 4 rows"):
        MultiFormationSpec().numbers(SHAPE, 0, 3)


def test_noise_has_the_requested_size() -> None:
    memory = MultiFormationSpec().noise(SHAPE, 0, 8, "xavier", torch.Generator().manual_seed(0))
    assert isinstance(memory, MultiFormation)
    assert (memory.rows, memory.stored.shape) == (8, (10, 2, 3, 8, 8))
