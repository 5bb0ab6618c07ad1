"""The Gaussian mechanism: how much noise gives (epsilon, delta)-differential privacy, and where it comes from.

The calibration is exact (Balle and Wang, "Improving the Gaussian mechanism for differential privacy", ICML 2018,
theorem 8). It holds for every epsilon, where the classical bound holds below 1 and is larger. Several numbers that are
released together are one vector, so that nothing is lost by composition.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor

Noise = Callable[[tuple[int, ...]], Tensor]  # a shape -> independent standard normal numbers, float64

LARGEST_SIGMA: Final = 1e6
BITS: Final = 53  # of a float64's mantissa


def delta_of(epsilon: float, sigma: float) -> float:
    """The smallest delta with which noise of deviation `sigma` is (epsilon, delta)-private at sensitivity 1."""
    from scipy.special import log_ndtr, ndtr  # noqa: PLC0415  (the extra `trainer`)

    half, far = 0.5 / sigma, epsilon * sigma
    return float(ndtr(half - far) - math.exp(epsilon + log_ndtr(-half - far)))


def noise_scale(epsilon: float, delta: float) -> float:
    """The smallest deviation of the noise that is (epsilon, delta)-private at sensitivity 1.

    Raises ValueError for an epsilon or a delta that promises nothing, or that no noise keeps.
    """
    from scipy.optimize import brentq  # noqa: PLC0415  (the extra `trainer`)

    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise ValueError(f"epsilon must be above 0 and delta between 0 and 1, not {epsilon:g} and {delta:g}")
    smallest, largest = 1 / LARGEST_SIGMA, LARGEST_SIGMA
    if delta_of(epsilon, largest) > delta:
        raise ValueError(f"epsilon {epsilon:g} and delta {delta:g} take more noise than {largest:g} times a picture")
    if delta_of(epsilon, smallest) <= delta:
        raise ValueError(f"epsilon {epsilon:g} and delta {delta:g} promise nothing; choose smaller ones")
    log: float = brentq(lambda at: delta_of(epsilon, math.exp(at)) - delta, math.log(smallest), math.log(largest))
    return math.exp(log) * (1 + 1e-9)  # on the private side of rounding


def system_noise(shape: tuple[int, ...]) -> Tensor:
    """Noise from the random numbers of the operating system, which nobody can repeat or predict."""
    from scipy.special import ndtri  # noqa: PLC0415  (the extra `trainer`)

    count = math.prod(shape)
    drawn = np.frombuffer(secrets.token_bytes(8 * count), dtype="<u8") >> np.uint64(64 - BITS)
    return torch.from_numpy(ndtri((drawn + 0.5) / 2.0**BITS)).reshape(shape)


def seeded_noise(seed: int) -> Noise:
    """Noise that everybody who knows the seed can subtract: for tests and experiments, without any guarantee."""
    generator = np.random.default_rng(seed)
    return lambda shape: torch.from_numpy(generator.standard_normal(shape))
