"""Memories below one vector of each class hold a head within their numbers, and one step of training gives it back."""

from __future__ import annotations

import pytest
import torch

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.memory import AddressedBases, SparseBases
from recall_server.core.preprocessing import Standardise
from tests.trainer.starts.features.test_described_classes import CLASSES, WIDTH, data
from trainer.starts.features.described_classes import best_exact
from trainer.starts.features.small_memories import small_heads, sparse_sizes

SPACE = Standardise(torch.zeros(WIDTH), torch.full((WIDTH,), 0.5))


@pytest.mark.parametrize("numbers", [7, 20, 40, 80])
def test_the_best_small_head_is_within_the_numbers_and_one_step_gives_it_back(numbers: int) -> None:
    train, validation = data(), data(1)
    found = best_exact(train, validation, SPACE, CLASSES, numbers)
    assert isinstance(found.memory, AddressedBases | SparseBases)
    assert found.memory.stored_numbers() <= numbers
    classifier = FreshClassifier(list("abcd"), (WIDTH, 1, 1), found.preprocessing, found.retraining)
    classifier.fit(found.memory.items(torch.eye(CLASSES))[..., None, None], torch.eye(CLASSES))
    pictures = SPACE.to_pixels(validation.features[:, :, None, None])
    right = classifier.predict_probabilities(pictures).argmax(dim=1) == validation.labels
    assert float(right.float().mean()) == pytest.approx(found.accuracy)
    assert found.accuracy > (0.4 if numbers < 20 else 0.7)


def test_below_one_basis_of_all_features_bases_are_sparse() -> None:
    assert isinstance(best_exact(data(), data(1), SPACE, CLASSES, WIDTH).memory, SparseBases)


def test_whole_bases_are_among_the_candidates_where_they_fit() -> None:
    train = data()
    head = best_exact(train, data(1), SPACE, CLASSES, 1000).head
    kinds = {type(each.memory(1.0)) for each in small_heads(head, train, WIDTH + CLASSES, 0.1)}
    assert kinds == {AddressedBases, SparseBases}


def test_sizes_are_within_the_numbers() -> None:
    assert sparse_sizes(3072, 100, 1280) == [(3, 554), (7, 263), (11, 151), (15, 92)]
    for count, features in sparse_sizes(307, 10, 1280):
        assert count * (features + 10) + 2 * features <= 307


def test_too_few_numbers_are_refused() -> None:
    with pytest.raises(
        ValueError, match="6 numbers are fewer than the 7 of a head that sees one feature, for 4 classes"
    ):
        best_exact(data(), data(1), SPACE, CLASSES, 6)
