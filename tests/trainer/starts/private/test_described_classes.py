"""A private memory is good where there are many pictures, and its noise is what it costs."""

from __future__ import annotations

import pytest
import torch

from recall_server.core.memory import DescribedClasses
from trainer.starts.features.trained_features import Labelled
from trainer.starts.private.class_statistics import Privacy
from trainer.starts.private.described_classes import PrivateMemory, private_memory

CLASSES, WIDTH = 4, 12
LOOSE = Privacy(epsilon=1e6, noise_seed=0)


def data(count: int, seed: int = 0) -> Labelled:
    """Features of length one around means of their classes."""
    means = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(9))
    labels = torch.arange(count) % CLASSES
    drawn = means[labels] + 0.8 * torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Labelled(drawn / drawn.norm(dim=1, keepdim=True), labels)


def made(count: int, privacy: Privacy) -> PrivateMemory:
    return private_memory(data(count), CLASSES, 10_000, privacy)


def accuracy(found: PrivateMemory) -> float:
    test = data(800, seed=1)
    logits = found.step.preprocessing.to_model(test.features[:, :, None, None]).flatten(1) @ found.step.vectors.T
    return float((logits.argmax(dim=1) == test.labels).float().mean())


def test_without_much_noise_it_is_the_memory_of_its_statistics() -> None:
    train = data(2000)
    found = private_memory(train, CLASSES, 10_000, LOOSE)
    assert found.counts.tolist() == [500] * CLASSES
    means = torch.stack([train.features[train.labels == label].mean(dim=0) for label in range(CLASSES)])
    recalled = found.memory.typical(torch.eye(CLASSES))[:, 0] * WIDTH**-0.5
    assert float((recalled - means).norm() / means.norm()) < 1e-3
    assert accuracy(found) > 0.9


def test_noise_costs_accuracy_and_more_pictures_buy_it_back() -> None:
    strict = Privacy(epsilon=0.2, noise_seed=0)
    assert accuracy(made(40, strict)) < accuracy(made(40, LOOSE)) - 0.1
    assert accuracy(made(20_000, strict)) > accuracy(made(20_000, LOOSE)) - 0.05


def test_it_stays_usable_under_any_noise() -> None:
    found = made(8, Privacy(epsilon=0.01, noise_seed=0))
    assert isinstance(found.memory, DescribedClasses)
    assert all(bool(tensor.isfinite().all()) for tensor in found.memory.tensors().values())
    assert float(found.counts.min()) >= 1


def test_a_budget_that_describes_no_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="numbers allow 1 bases, fewer than the 4 that 4 classes take"):
        private_memory(data(40), CLASSES, 30, LOOSE)
