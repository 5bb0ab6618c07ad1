"""The figures of an attack are those of scikit-learn and scipy, and their intervals cover what they should."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from trainer.evaluation.audit.attack import chance, measure
from trainer.evaluation.audit.likelihood_ratio import halves, log_ratios


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scores(shift: float, count: int, seed: int = 0, levels: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randn(2, count, generator=generator(seed), dtype=torch.float64)
    drawn[0] += shift
    members, others = drawn if levels is None else (drawn * levels).round() / levels
    return members, others[: count // 2]


@pytest.mark.parametrize("levels", [None, 2])
def test_area_and_advantage_are_those_of_the_libraries(levels: int | None) -> None:
    members, others = scores(0.7, 400, levels=levels)
    found = measure(members, others, generator())
    truth = torch.cat([torch.ones(len(members)), torch.zeros(len(others))])
    assert found.auroc.value == pytest.approx(roc_auc_score(truth, torch.cat([members, others])), abs=1e-12)
    assert found.advantage.value == pytest.approx(ks_2samp(members, others, alternative="less").statistic, abs=1e-12)


def test_the_rate_at_one_per_cent_is_that_of_the_best_threshold_that_allows_it() -> None:
    others = torch.arange(200).double()
    members = torch.cat([torch.full((30,), 198.5), torch.full((20,), 197.5), torch.zeros(150)]).double()
    assert measure(members, others, generator()).caught.value == 50 / 200  # 197.5 has two of 200 above it


def test_certainty_and_guessing() -> None:
    sure = measure(torch.ones(150), torch.zeros(150), generator())
    assert all(figure == (1.0, 1.0, 1.0) for figure in sure)
    none = measure(torch.zeros(150), torch.zeros(150), generator())
    assert none.auroc == (0.5, 0.5, 0.5) and none.advantage.value == 0 and none.caught.value == 0


def test_guessing_rarely_exceeds_the_advantage_of_chance() -> None:
    exceeded = 0
    for seed in range(200):
        members, others = scores(0, 300, seed)
        exceeded += ks_2samp(members, others, alternative="two-sided").statistic > chance(300, 150)
    assert exceeded <= 22  # of 200 at one in twenty: three standard errors above


def test_intervals_cover_the_true_area() -> None:
    truth = float(torch.distributions.Normal(0, 1).cdf(torch.tensor(0.7 / 2**0.5)))
    covered = 0
    for seed in range(40):
        figure = measure(*scores(0.7, 300, seed), generator(seed)).auroc
        assert figure.low < figure.value < figure.high
        covered += figure.low <= truth <= figure.high
    assert covered >= 33  # of 40 at 95 %: more than three standard errors below


def test_too_few_pictures_are_refused_with_the_number_that_it_takes() -> None:
    with pytest.raises(ValueError, match="intervals at 1% false positives take 100 or more non-members; there are 99"):
        measure(torch.zeros(100), torch.zeros(99), generator())
    with pytest.raises(ValueError, match="take 100 or more members; there are 3"):
        measure(torch.zeros(3), torch.zeros(99), generator())


def test_halves_are_complements_of_which_each_picture_is_in_half() -> None:
    labels = torch.arange(33) % 3
    inside = halves(labels, 6, generator())
    assert inside.sum(dim=0).tolist() == [3] * 33
    for pair in range(0, 6, 2):
        assert bool((inside[pair] ^ inside[pair + 1]).all())
    assert {int(torch.bincount(labels[chosen])[0]) for chosen in inside} == {5, 6}
    for count in (1, 2, 5):
        with pytest.raises(ValueError, match="shadow memories come in pairs, 4 or more of them"):
            halves(labels, count, generator())


def test_the_likelihood_ratio_knows_what_each_picture_looks_like() -> None:
    """A picture that looks known in every memory is no member for that; the raw score takes it for one."""
    count, difficulty = 600, 3 * torch.randn(600, generator=generator())
    inside = halves(torch.zeros(count).long(), 16, generator())
    shadows = difficulty + inside + 0.5 * torch.randn(16, count, generator=generator(1))
    members = torch.arange(count) % 2 == 0
    target = difficulty + members + 0.5 * torch.randn(count, generator=generator(2))
    raw = measure(target[members], target[~members], generator()).auroc
    informed = log_ratios(target, shadows, inside)
    sharp = measure(informed[members], informed[~members], generator()).auroc
    assert raw.high < 0.7 and sharp.low > 0.85


def test_shadows_that_agree_exactly_are_still_comparable() -> None:
    inside = halves(torch.zeros(200).long(), 4, generator())
    shadows = torch.where(inside, 0.0, -2.0)
    found = log_ratios(torch.tensor([0.0, -2.0]).repeat(100), shadows, inside)
    assert bool(found.isfinite().all())
    assert bool((found[::2] > 0).all()) and bool((found[1::2] < 0).all())
    with pytest.raises(ValueError, match="every picture must be in two shadow memories"):
        log_ratios(torch.zeros(200), shadows, torch.ones_like(inside))
