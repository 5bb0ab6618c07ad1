"""A linear head is training data: one step recovers it, for all classes and for some of them."""

from __future__ import annotations

import pytest
import torch

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.classifier.one_step import one_step
from recall_server.core.preprocessing import Standardise
from tests.tolerances import assert_close

WIDTH = 19


def head(classes: int, *, bias: bool = True) -> LinearHead:
    generator = torch.Generator().manual_seed(classes)
    weights = torch.randn(classes, WIDTH, generator=generator)
    return LinearHead(weights, torch.randn(classes, generator=generator) * bias)


def served(chosen: list[int], of: LinearHead, features: torch.Tensor) -> torch.Tensor:
    """Probabilities of the classifier that is trained for the chosen classes."""
    preprocessing = Standardise(torch.linspace(-1, 1, WIDTH), torch.linspace(0.5, 2, WIDTH))
    vectors, moved, schedule = one_step(of, preprocessing)
    classifier = FreshClassifier([str(each) for each in chosen], (WIDTH, 1, 1), moved, schedule)
    classifier.fit(vectors[chosen][:, None, :, None, None], torch.eye(len(chosen)))
    return classifier.predict_probabilities(preprocessing.to_pixels(features[:, :, None, None]))


@pytest.mark.parametrize("classes", [2, 5, 17])
@pytest.mark.parametrize("bias", [True, False])
def test_training_recovers_the_head(classes: int, bias: bool) -> None:
    of, features = head(classes, bias=bias), torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0))
    found = served(list(range(classes)), of, features)
    assert_close(found, of.logits(features).softmax(dim=1), terms=100, gain=30)


def test_of_some_classes_it_recovers_their_columns_up_to_a_factor() -> None:
    of, features = head(5), torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0))
    expected = (5 / 2 * of.logits(features)[:, [4, 1]]).softmax(dim=1)
    assert_close(served([4, 1], of, features), expected, terms=100, gain=30)


def test_a_head_without_bias_leaves_the_space_as_it_is() -> None:
    space = Standardise(torch.zeros(WIDTH), torch.ones(WIDTH))
    assert one_step(head(3, bias=False), space).preprocessing is space
