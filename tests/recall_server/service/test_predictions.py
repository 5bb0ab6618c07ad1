"""Predictions list as many classes as was asked for, and a large answer is refused before a picture is decoded."""

from __future__ import annotations

import numpy as np
import pytest

from recall_server.errors import InvalidRequest
from recall_server.service.predictions import LISTED_CLASSES, Predictions, check_answer_size

EMOJI = "\U0001f600" * 196


def of(rows: list[list[float]], top: int | None = None) -> Predictions:
    labels = tuple(f"class {number}" for number in range(len(rows[0])))
    return Predictions(labels, np.array(rows, dtype=np.float32), "classifier", top)


def test_all_classes_are_listed_in_their_order_unless_fewer_are_asked_for() -> None:
    (said,) = of([[0.25, 0.5, 0.125, 0.125]])
    assert (said.label, list(said.probabilities)) == ("class 1", ["class 0", "class 1", "class 2", "class 3"])
    (said,) = of([[0.25, 0.5, 0.125, 0.125]], top=2)
    assert said.probabilities == {"class 0": 0.25, "class 1": 0.5}
    assert of([[0.5, 0.5]], top=1)[0].probabilities == {"class 0": 0.5}, "of equals, the first"


def test_of_very_many_classes_only_the_most_probable_are_listed() -> None:
    (said,) = of([[1.0 / (1 + number) for number in range(1000)]])
    assert list(said.probabilities) == [f"class {number}" for number in range(LISTED_CLASSES)]
    assert len(of([[0.001] * 1000], top=1000)[0].probabilities) == 1000


def test_a_slice_of_predictions_is_predictions() -> None:
    some = of([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])[1:]
    assert [each.label for each in some] == ["class 1", "class 0"]
    with pytest.raises(IndexError):
        some[2]


@pytest.mark.parametrize(
    ("pictures", "labels", "top"),
    [
        (1000, [EMOJI] * 1000, None),
        (1000, [EMOJI] * 1000, 1000),
        (1000, [EMOJI] * 100, None),
        (1000, ["\0" * 200] * 150, None),
    ],
)
def test_an_answer_that_is_too_large_is_refused(pictures: int, labels: list[str], top: int | None) -> None:
    with pytest.raises(InvalidRequest, match=r"\?top=5"):
        check_answer_size(pictures, labels, top)


@pytest.mark.parametrize(
    ("pictures", "labels", "top"),
    [(1000, [EMOJI] * 1000, 5), (1000, ["a class"] * 1000, None), (1, [EMOJI] * 1000, 1000)],
)
def test_ordinary_answers_are_not_refused(pictures: int, labels: list[str], top: int | None) -> None:
    check_answer_size(pictures, labels, top)
