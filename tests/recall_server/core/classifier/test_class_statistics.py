"""Two covariances: recovered from a memory, and the posterior that they imply, against dense float64 algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import UNSEEN, ClassStatistics, TwoCovariances
from recall_server.core.memory import StoredItems
from tests.recall_server.feature_examples import few_sparse_features, statistics_memory
from tests.tolerances import assert_close

CLASSES, WIDTH = 6, 12


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % CLASSES
    means = 2 * torch.randn(CLASSES, WIDTH, dtype=torch.float64, generator=generator)
    spread = torch.linspace(0.2, 2, WIDTH, dtype=torch.float64)
    return means[labels] + spread * torch.randn(600, WIDTH, dtype=torch.float64, generator=generator), labels


def dense(statistics: ClassStatistics) -> tuple[Tensor, Tensor]:
    """The covariances [D, D] within classes and of class means."""
    shared, directions = statistics.variances.mean(dim=0), statistics.directions
    within = shared.median() * torch.eye(WIDTH, dtype=torch.float64) + directions.T @ torch.diag(shared) @ directions
    whitening = torch.linalg.inv(_root(within))
    away = (statistics.means - statistics.means.mean(dim=0)) @ whitening
    between = away.T @ away / (CLASSES - 1)
    between = between + UNSEEN * between.trace() / WIDTH * torch.eye(WIDTH, dtype=torch.float64)
    return within, _root(within) @ between @ _root(within)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T


def test_means_and_variances_are_read_back_from_a_memory() -> None:
    features, labels = data()
    means = torch.stack([features[labels == label].mean(dim=0) for label in range(CLASSES)])
    statistics = ClassStatistics.of_memory(statistics_memory(features.float(), labels, CLASSES))
    assert_close(statistics.means, means.float(), terms=10_000)
    within = torch.stack([torch.cov(features[labels == label].T, correction=0) for label in range(CLASSES)]).mean(dim=0)
    found = statistics.directions.T @ torch.diag(statistics.variances.mean(dim=0)) @ statistics.directions
    assert_close(found, within.float(), terms=100_000)


def test_a_memory_of_stored_items_has_principal_directions() -> None:
    items = torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    statistics = ClassStatistics.of_memory(StoredItems(items))
    away = (items - items.mean(dim=1, keepdim=True)).flatten(0, 1)
    found = statistics.directions.T @ torch.diag(statistics.variances.mean(dim=0)) @ statistics.directions
    assert_close(found.diagonal(), (away.T @ away / 12).diagonal(), terms=1000)


def test_one_vector_per_class_is_refused() -> None:
    with pytest.raises(ValueError, match="how a class varies"):
        ClassStatistics.of_memory(StoredItems(torch.randn(3, 1, WIDTH)))


def test_the_head_compares_the_posteriors_of_the_classes() -> None:
    features, labels = data()
    statistics = ClassStatistics.of_features(features, labels, CLASSES, 5)
    model, (within, between) = TwoCovariances(statistics), dense(statistics)
    generator = torch.Generator().manual_seed(2)
    shown = torch.randn(3, 4, WIDTH, dtype=torch.float64, generator=generator)  # 4 pictures of each of 3 classes
    asked = torch.randn(7, WIDTH, dtype=torch.float64, generator=generator)
    head = model.head(model.whiten(shown).mean(dim=1), torch.full((3,), 4.0, dtype=torch.float64))
    gain = between @ torch.linalg.inv(between + within / 4)
    means = model.centre + (shown.mean(dim=1) - model.centre) @ gain.T
    spread = within + between - gain @ between
    expected = torch.stack(
        [torch.distributions.MultivariateNormal(mean, spread).log_prob(asked) for mean in means], dim=1
    )
    assert_close(head.logits(asked).log_softmax(dim=1), expected.log_softmax(dim=1), terms=100_000)


def test_drawn_vectors_have_the_moments_of_the_posterior() -> None:
    features, labels = data()
    statistics = ClassStatistics.of_features(features, labels, CLASSES, 5)
    model, (within, between) = TwoCovariances(statistics), dense(statistics)
    shown = features[:4].view(2, 2, WIDTH)
    counts = torch.full((2,), 2.0, dtype=torch.float64)
    drawn = model.sample(model.whiten(shown).mean(dim=1), counts, 40_000, torch.Generator().manual_seed(3))
    gain = between @ torch.linalg.inv(between + within / 2)
    expected = within + between - gain @ between
    noise = 6 * float(expected.diagonal().max()) / 40_000**0.5
    assert float((torch.cov(drawn[0].T) - expected).abs().max()) < noise
    assert (
        float((drawn[0].mean(dim=0) - model.centre - (shown[0].mean(dim=0) - model.centre) @ gain.T).abs().max())
        < noise
    )


def test_few_features_with_many_zeros_have_directions() -> None:
    for seed in range(8):
        found = ClassStatistics.of_features(few_sparse_features(seed), torch.arange(12) % 2, 2, 5)
        assert torch.isfinite(found.directions).all()
        assert_close(found.directions @ found.directions.T, torch.eye(5), terms=150)
