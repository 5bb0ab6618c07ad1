"""Tolerances let rounding through, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.tolerances import assert_close, magnitude, rounding

TERMS = 1000
NUMBERS = torch.randn(TERMS, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sums_in_any_order_are_within_tolerance(dtype: torch.dtype) -> None:
    numbers = NUMBERS.to(dtype)
    one_by_one = torch.zeros((), dtype=dtype)
    for number in numbers.flip(0):
        one_by_one += number
    size = magnitude(numbers.cumsum(0))  # the largest sum on the way
    assert_close(one_by_one, numbers.sum(), terms=TERMS, size=size)
    with pytest.raises(AssertionError):
        assert_close(numbers[1:].sum(), numbers.sum(), terms=TERMS, size=size)  # a term is missing


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (1.001 * NUMBERS, NUMBERS),
        (NUMBERS[:-1], NUMBERS),
        (NUMBERS.double(), NUMBERS),
        (torch.where(NUMBERS > 2, torch.nan, NUMBERS), NUMBERS),
        ({"a": 1.0, "b": 2.0}, {"a": 1.0}),
        ([1.0, 2.0], [1.0]),
        ([1e-9], [0.0]),
        (np.ones(3), np.ones(3, dtype=np.float32)),
    ],
    ids=["factor", "shape", "type", "NaN", "key", "length", "zero has no size", "type of arrays"],
)
def test_differences_beyond_rounding_are_reported(actual: Any, expected: Any) -> None:
    with pytest.raises(AssertionError):
        assert_close(actual, expected, terms=TERMS)


def test_each_tensor_has_a_tolerance_of_its_own_size() -> None:
    large, small = torch.full((3,), 1e3), torch.full((3,), 1e-3)
    assert_close({"large": [large], "small": [small]}, {"large": [large], "small": [small]})
    with pytest.raises(AssertionError):
        assert_close([large, 1.001 * small], [large, small])
    assert magnitude({"large": [-large], "small": small, "none": []}) == 1e3


def test_a_number_read_from_a_tensor_keeps_the_precision_of_the_tensor() -> None:
    third = float(torch.tensor(1.0) / 3)
    assert_close(third, 1 / 3, dtype=torch.float32)
    with pytest.raises(AssertionError):
        assert_close(third, 1 / 3)
    assert rounding(torch.float32, terms=4, gain=3) == 6 * rounding(torch.float32)
