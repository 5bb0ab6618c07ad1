"""Memories of hallucinators: how many rows a budget holds, and what real items become."""

from __future__ import annotations

import pytest
import torch

from recall_server.core.memory import Hallucinators
from tests.tolerances import assert_close
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.memories import HallucinatorsSpec
from trainer.methods.specs.problem import MemoryShape

SHAPE = MemoryShape(classes=10, query_size=10, item_shape=(3, 8, 8), image_numbers=192)
NETWORK = 3 * 3 * 9 + 3 + 2 * 3 * 6 * 6 + 3 * 3 * 9 + 3  # numbers of one hallucinator of three channels


@pytest.mark.parametrize(("count", "images_per_class"), [(2, 2), (5, 3.7)])
def test_a_budget_holds_as_many_bases_as_fit_beside_the_hallucinators(count: int, images_per_class: float) -> None:
    spec = HallucinatorsSpec(count=count)
    budget = MemoryBudget.fit(spec, SHAPE, images_per_class=images_per_class, bases=0, rows=None)
    assert budget.rows == count * int((images_per_class * 1920 - count * NETWORK) // 1920)
    memory = spec.noise(SHAPE, 0, budget.rows, "xavier", torch.Generator().manual_seed(0))
    assert memory.stored_numbers() == spec.numbers(SHAPE, 0, budget.rows) <= images_per_class * 1920


def test_a_budget_without_room_says_how_much_is_needed() -> None:
    needed = 1 + 2 * NETWORK / 1920
    with pytest.raises(ValueError, match=f"2 stored items of each class do not fit in 1 images.*take {needed:g}"):
        MemoryBudget.fit(HallucinatorsSpec(count=2), SHAPE, images_per_class=1, bases=0, rows=None)


def test_rows_that_leave_out_a_hallucinator_are_refused() -> None:
    with pytest.raises(ValueError, match="5 hallucinators recall a multiple of 5 rows"):
        HallucinatorsSpec().numbers(SHAPE, 0, 4)


def test_real_items_become_bases_or_their_mean_over_channels() -> None:
    items = torch.randn(10, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    colour, grey = (HallucinatorsSpec(count=2, channels=each).holding(items) for each in ("all", "one"))
    assert isinstance(colour, Hallucinators)
    assert isinstance(grey, Hallucinators)
    assert torch.equal(colour.bases, items[:, :2])
    assert_close(grey.bases[:, :, 0], (items[:, :2, 0] + items[:, :2, 1] + items[:, :2, 2]) / 3, terms=3)
    assert colour.rows == grey.rows == 4
