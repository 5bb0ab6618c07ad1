"""The noise is as large as the literature says, normal, and different each time."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest, norm

from tests.tolerances import assert_close
from trainer.starts.private.gaussian_mechanism import delta_of, noise_scale, seeded_noise, system_noise


@pytest.mark.parametrize(
    ("epsilon", "sigma"),
    # Values that the authors' own program prints for delta 1e-5 and sensitivity 1 (Balle and Wang, 2018).
    [(1.0, 3.730632), (2.0, 1.993812), (4.0, 1.081162), (8.0, 0.600229)],
)
def test_the_noise_is_that_of_the_analytic_gaussian_mechanism(epsilon: float, sigma: float) -> None:
    assert noise_scale(epsilon, 1e-5) == pytest.approx(sigma, abs=1e-6)


def test_it_is_less_than_the_classical_bound_where_that_holds() -> None:
    for epsilon in (0.1, 0.5, 0.9):
        classical = math.sqrt(2 * math.log(1.25 / 1e-5)) / epsilon  # Dwork and Roth (2014), theorem A.1
        assert 0.5 * classical < noise_scale(epsilon, 1e-5) < classical


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0])
def test_delta_is_the_largest_gap_between_neighbours_at_this_epsilon(sigma: float) -> None:
    """By its definition: the supremum over events is reached where the ratio of densities exceeds e^epsilon."""
    for epsilon in (0.5, 1.0, 3.0):
        threshold = sigma**2 * epsilon + 0.5  # of the output, where one neighbour's value is 0 and the other's 1
        with_picture, without = norm.sf(threshold, 1, sigma), norm.sf(threshold, 0, sigma)
        assert delta_of(epsilon, sigma) == pytest.approx(with_picture - math.exp(epsilon) * without, rel=1e-9)


def test_the_scale_keeps_its_promise_and_hardly_more() -> None:
    for epsilon, delta in ((0.01, 1e-6), (1.0, 1e-5), (8.0, 1e-5), (50.0, 1e-9)):
        sigma = noise_scale(epsilon, delta)
        assert delta_of(epsilon, sigma) <= delta
        assert delta_of(epsilon, sigma * 0.999) > delta


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(0, 1e-5), (-1, 1e-5), (1, 0), (1, 1), (math.inf, 1e-5), (math.nan, 0.1)]
)
def test_what_promises_nothing_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be above 0 and delta between 0 and 1"):
        noise_scale(epsilon, delta)


def test_what_no_noise_keeps_is_refused() -> None:
    with pytest.raises(ValueError, match="more noise than 1e"):
        noise_scale(1e-9, 1e-12)
    with pytest.raises(ValueError, match="promise nothing"):
        noise_scale(1e13, 1e-5)


def test_noise_of_the_system_is_normal_and_never_the_same() -> None:
    first, second = system_noise((100, 50)), system_noise((100, 50))
    assert first.shape == (100, 50) and first.dtype == torch.float64
    assert not torch.equal(first, second)
    # An error of 1 in 10^9 runs: Kolmogorov's statistic of 10,000 numbers.
    assert kstest(torch.cat([first, second]).flatten().numpy(), norm.cdf).pvalue > 1e-9


def test_a_seed_repeats_the_noise() -> None:
    assert_close(seeded_noise(3)((4, 2)), seeded_noise(3)((4, 2)))
    assert not torch.equal(seeded_noise(3)((4, 2)), seeded_noise(4)((4, 2)))
