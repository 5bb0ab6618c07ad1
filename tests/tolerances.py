"""How far two results of the same mathematics may lie apart.

Floating-point sums depend on their order, and the order depends on the processor, the library and the number of
threads. A comparison of two ways to compute the same numbers therefore needs a tolerance, and that tolerance follows
from the arithmetic:

    SAFETY * eps(dtype) * sqrt(terms) * gain * size

* `eps` is the spacing of floating-point numbers at 1: 2^-52 for float64, 2^-23 for float32, 2^-7 for bfloat16.
* `terms` is the number of roundings that one result collects one after another, such as the length of a sum.
  Roundings are independent, so that their errors add up like a random walk: with the square root of their number.
* `gain` is the condition number: the factor by which the computation enlarges a relative error on the way.
* `size` is the magnitude of the numbers that are added. It is the largest expected value unless the test says
  otherwise; sums that cancel need the magnitude of what cancels.
* `SAFETY` covers the spread: both sides round, and the largest of many errors is a few times the typical one.

In float32, a sum of 1,000 terms may differ by 3e-5 of its size: a wrong factor or a missing term is far outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

SAFETY = 4


def rounding(dtype: torch.dtype, *, terms: int = 1, gain: float = 1.0) -> float:
    """The error of a result of size 1, after `terms` roundings that the computation enlarges by `gain`."""
    return SAFETY * torch.finfo(dtype).eps * math.sqrt(terms) * gain


def assert_close(
    actual: Any,
    expected: Any,
    *,
    terms: int = 1,
    gain: float = 1.0,
    size: float | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Assert that two results differ by rounding alone.

    Results are numbers, arrays, tensors, or sequences and mappings of them; shapes, types and keys must be the same.
    Each array or tensor has its own `size` unless one is given for all. `dtype` is the type that the numbers were
    computed in, where it is coarser than the one that they are held in: a `float` read from a float32 tensor, say.
    """
    if isinstance(expected, Mapping):
        assert actual.keys() == expected.keys()
        actual, expected = [actual[name] for name in expected], list(expected.values())
    if isinstance(expected, Sequence):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_close(one, other, terms=terms, gain=gain, size=size, dtype=dtype)
        return
    mine, oracle = _tensor(actual), _tensor(expected)
    tolerance = rounding(dtype or oracle.dtype, terms=terms, gain=gain) * (magnitude(oracle) if size is None else size)
    torch.testing.assert_close(mine, oracle, rtol=0, atol=tolerance)


def magnitude(values: Any) -> float:
    """The largest absolute value in numbers, arrays, tensors, or sequences and mappings of them."""
    if isinstance(values, Mapping | Sequence):
        return max(map(magnitude, values.values() if isinstance(values, Mapping) else values), default=0.0)
    tensor = _tensor(values).detach()
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def _tensor(value: Any) -> Tensor:
    """Python's numbers are float64; arrays keep their type."""
    if isinstance(value, Tensor):
        return value
    return (
        torch.from_numpy(np.ascontiguousarray(value))
        if isinstance(value, np.ndarray)
        else torch.tensor(value, dtype=torch.float64)
    )
