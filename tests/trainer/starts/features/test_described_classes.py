"""A memory that describes its classes holds the head exactly, and their means and deviations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import ClassStatistics
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.preprocessing import Standardise
from tests.recall_server.feature_examples import few_sparse_features
from tests.tolerances import assert_close
from trainer.starts.features.described_classes import best_exact, described_classes, most_bases, shared_bases
from trainer.starts.features.linear_head import HeadSettings, softmax_head
from trainer.starts.features.trained_features import Labelled

CLASSES, WIDTH, COUNT = 4, 24, 400


def data(seed: int = 0) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    means = 2 * torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(9))
    labels = torch.arange(COUNT) % CLASSES
    spread = torch.linspace(2, 0.2, WIDTH)
    return Labelled(means[labels] + spread * torch.randn(COUNT, WIDTH, generator=generator), labels)


def centred_head(train: Labelled) -> Tensor:
    weights = softmax_head(train.features, train.labels, CLASSES, 0.1, bias=False).weights
    return weights - weights.mean(dim=0)


@pytest.mark.parametrize("centres", [1, 3])
def test_it_recalls_the_head_and_knows_the_means(centres: int) -> None:
    train = data()
    vectors = centred_head(train)
    memory = described_classes(train, vectors, bases=WIDTH, centres=centres)
    assert_close(memory.items(torch.eye(CLASSES))[:, 0], vectors, terms=WIDTH, gain=10)
    means = torch.stack([train.features[train.labels == label].mean(dim=0) for label in range(CLASSES)])
    typical = memory.typical(torch.eye(CLASSES))
    assert typical.shape == (CLASSES, centres, WIDTH)
    assert_close(typical.mean(dim=1), means, terms=COUNT, gain=10)


def test_fewer_bases_lose_nothing_of_the_head() -> None:
    train = data()
    vectors = centred_head(train)
    memory = described_classes(train, vectors, bases=8, centres=2)
    assert memory.stored_numbers() == 8 * (WIDTH + CLASSES * 4)
    assert_close(memory.items(torch.eye(CLASSES))[:, 0], vectors, terms=WIDTH, gain=10)
    with pytest.raises(ValueError, match="2 bases cannot span a head of 4 classes"):
        described_classes(train, vectors, bases=2, centres=2)


def test_its_statistics_are_those_of_the_features_along_its_bases() -> None:
    train = data()
    memory = described_classes(train, centred_head(train), bases=WIDTH, centres=2)
    found = ClassStatistics.of_memory(memory)
    away = train.features - found.means[train.labels]
    squares = (away @ found.directions.T).square()
    variances = torch.stack([squares[train.labels == label].mean(dim=0) for label in range(CLASSES)])
    assert_close(found.variances, variances, terms=COUNT, gain=30)


def test_a_class_of_one_feature_has_it_as_every_centre() -> None:
    train = data()
    few = Labelled(train.features[:9], torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 3]))
    memory = described_classes(few, centred_head(train), bases=WIDTH, centres=3)
    assert_close(memory.typical(torch.eye(CLASSES))[3], few.features[8].expand(3, -1), terms=WIDTH, gain=30)


@pytest.mark.parametrize("shifted", [False, True])
def test_the_best_head_is_chosen_and_one_step_gives_it_back(shifted: bool) -> None:
    train, validation = data(), data(1)
    mean = torch.linspace(-1, 1, WIDTH) if shifted else torch.zeros(WIDTH)
    space = Standardise(mean, torch.full((WIDTH,), 0.5))
    found = best_exact(train, validation, space, CLASSES, numbers=10_000)
    classifier = FreshClassifier(list("abcd"), (WIDTH, 1, 1), found.preprocessing, found.retraining)
    classifier.fit(found.memory.items(torch.eye(CLASSES))[..., None, None], torch.eye(CLASSES))
    pictures = space.to_pixels(validation.features[:, :, None, None])
    right = classifier.predict_probabilities(pictures).argmax(dim=1) == validation.labels
    assert float(right.float().mean()) == pytest.approx(found.accuracy)
    assert found.accuracy > 0.9
    typical = found.preprocessing.to_pixels(found.memory.typical(torch.eye(CLASSES)).flatten(0, 1)[:, :, None, None])
    means = torch.stack([train.features[train.labels == label].mean(dim=0) for label in range(CLASSES)])
    expected = space.to_pixels(means[:, :, None, None])[:, :, 0, 0]
    assert_close(typical[:, :, 0, 0].view(CLASSES, -1, WIDTH).mean(dim=1), expected, terms=COUNT, gain=100)


def test_bases_fill_the_budget() -> None:
    assert most_bases(400, classes=4, width=24, centres=2) == 10
    assert most_bases(4000, classes=4, width=24, centres=2) == 24


def test_few_features_with_many_zeros_have_a_head_and_bases() -> None:
    space, labels = Standardise(torch.zeros(150), torch.ones(150)), torch.arange(12) % 2
    for seed in range(8):
        few = Labelled(few_sparse_features(seed), labels)
        found = best_exact(few, few, space, 2, 152, HeadSettings(ridge=0.003, balance=0.5))
        assert all(torch.isfinite(tensor).all() for tensor in found.memory.tensors().values())
        along = shared_bases(few.features[:2], few.features, few.features.T @ few.features, 12)
        assert_close(along.T @ along, torch.eye(12), terms=150)
