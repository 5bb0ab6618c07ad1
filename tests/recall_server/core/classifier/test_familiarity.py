"""Familiarity reads as the chance that a picture shows one of the classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.familiarity import Familiarity
from tests.tolerances import assert_close

WIDTH = 6


def pictures(classes: range, count: int, seed: int) -> Tensor:
    """Features [count, WIDTH] around unit vectors, one for each class."""
    features = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    features[torch.arange(count), classes.start + torch.arange(count) % len(classes)] += 3
    return features


def familiarity(rows: int) -> Familiarity:
    """Of the classes 0 and 1, with the classes up to `rows` as the others; strangers are the classes from 4 on."""
    head = LinearHead(torch.eye(rows, WIDTH), torch.zeros(rows))
    return Familiarity.calibrated(head, 2, pictures(range(2), 4000, 0), pictures(range(4, 6), 4000, 1))


def test_half_of_the_pictures_that_are_half_familiar_show_one_of_the_classes() -> None:
    scores = familiarity(2)
    known, strange = scores.of(pictures(range(2), 4000, 2)), scores.of(pictures(range(4, 6), 4000, 3))
    for low in (0.2, 0.4, 0.6):
        inside, outside = (float(((each > low) & (each < low + 0.2)).sum()) for each in (known, strange))
        assert abs(inside / (inside + outside) - (low + 0.1)) < 0.08


def test_a_picture_of_another_class_that_is_known_is_less_familiar() -> None:
    others = pictures(range(2, 4), 500, 4)
    assert float(familiarity(4).of(others).mean()) < float(familiarity(2).of(others).mean()) / 2


def test_familiarity_survives_a_file() -> None:
    scores, features = familiarity(4), pictures(range(WIDTH), 30, 5)
    assert_close(Familiarity.from_tensors(scores.tensors(), 2).of(features), scores.of(features), terms=WIDTH)


def test_classes_that_cannot_be_told_from_others_still_have_an_order() -> None:
    same = pictures(range(2), 50, 6)
    head = LinearHead(torch.eye(2, WIDTH), torch.zeros(2))
    assert Familiarity.calibrated(head, 2, same, same).slope > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", torch.zeros(1, WIDTH)),
        ("bias", torch.zeros(3)),
        ("weights", torch.full((2, WIDTH), torch.nan)),
        ("calibration", torch.tensor([0.0, -1.0])),
        ("calibration", torch.zeros(3)),
    ],
)
def test_tensors_that_make_no_score_are_refused(name: str, value: Tensor) -> None:
    with pytest.raises(ValueError, match="familiarity|head"):
        Familiarity.from_tensors(familiarity(2).tensors() | {name: value}, 2)
