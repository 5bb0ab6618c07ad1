"""One picture changes the statistics by at most the sensitivity, and the noise is as large as that asks for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.tolerances import assert_close
from trainer.starts.features.trained_features import Labelled
from trainer.starts.private.class_statistics import SHARES, Privacy, as_vector, clipped, exact_sums, private_sums
from trainer.starts.private.gaussian_mechanism import noise_scale

CLASSES, WIDTH, COUNT = 3, 6, 40


def data(seed: int = 0, scale: float = 3.0) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    return Labelled(scale * torch.randn(COUNT, WIDTH, generator=generator), torch.arange(COUNT) % CLASSES)


def without(some: Labelled, picture: int) -> Labelled:
    kept = torch.arange(len(some.labels)) != picture
    return Labelled(some.features[kept], some.labels[kept])


@pytest.mark.parametrize("clip", [0.5, 1.0, 4.0])
def test_no_picture_changes_the_statistics_by_more_than_one(clip: float) -> None:
    every = data()
    whole = as_vector(exact_sums(every, CLASSES, clip), clip)
    changes = [
        float((whole - as_vector(exact_sums(without(every, picture), CLASSES, clip), clip)).norm())
        for picture in range(COUNT)
    ]
    long = every.features.norm(dim=1) >= clip
    assert max(changes) <= 1 + 1e-12
    assert_close(torch.tensor(changes)[long], torch.ones(int(long.sum())), terms=COUNT * WIDTH)


def test_short_features_stay_and_long_ones_keep_their_direction() -> None:
    features = torch.tensor([[0.3, 0.4], [3.0, 4.0], [0.0, 0.0]])
    assert_close(
        clipped(features, 1.0), torch.tensor([[0.3, 0.4], [0.6, 0.8], [0.0, 0.0]]).double(), dtype=torch.float32
    )


def test_noise_has_the_stated_deviation_everywhere() -> None:
    """In the vector that has sensitivity one, every number has the noise of the mechanism, and all are independent."""
    every, clip, runs = data(), 2.0, 400
    sigma = noise_scale(4.0, 1e-5)
    exact = as_vector(exact_sums(every, CLASSES, clip), clip)
    kept = exact_positions()
    found = torch.stack(
        [
            as_vector(private_sums(every, CLASSES, Privacy(epsilon=4, clip=clip, noise_seed=seed)), clip) - exact
            for seed in range(runs)
        ]
    )[:, kept]
    bound = 5 / math.sqrt(runs)  # five standard errors
    assert float((found.mean(dim=0) / sigma).abs().max()) < bound
    assert float((found.std(dim=0) / sigma - 1).abs().max()) < bound
    correlations = torch.corrcoef(found.T) - torch.eye(int(kept.sum()))
    assert float(correlations.abs().max()) < 1.3 * bound  # of some thousand pairs


def exact_positions() -> Tensor:
    """Which numbers of the vector are stored: not the zeros below the diagonal of the products."""
    upper = torch.triu(torch.ones(WIDTH, WIDTH)).bool().flatten()
    return torch.cat([torch.ones(CLASSES + CLASSES * WIDTH).bool(), upper])


def test_products_stay_symmetric() -> None:
    products = private_sums(data(), CLASSES, Privacy()).products
    assert torch.equal(products, products.T)
    assert private_sums(data(), CLASSES, Privacy()).deviation == pytest.approx(
        noise_scale(8, 1e-5) * math.hypot(*SHARES) / SHARES[2]
    )


def test_a_known_seed_promises_nothing_and_says_so() -> None:
    assert Privacy().recorded()["noise"] == "of the operating system"
    assert "nothing is promised" in str(Privacy(noise_seed=1).recorded()["noise"])
    first, second = (private_sums(data(), CLASSES, Privacy(noise_seed=1)).sums for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(private_sums(data(), CLASSES, Privacy()).sums, first)
