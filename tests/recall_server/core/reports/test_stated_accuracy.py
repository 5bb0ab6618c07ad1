"""The accuracy that is stated for a memory: which measurement, and how far it can be trusted."""

from __future__ import annotations

from typing import Any

import pytest

from recall_server.core.bundle.manifest import Manifest, MeasuredAccuracy
from recall_server.core.reports.stated_accuracy import stated_accuracy
from tests.recall_server.bundle_examples import example_bundle


def measured(protocol: str, mean: float, data: str, **more: Any) -> MeasuredAccuracy:
    network = more.pop("network", str(example_bundle().manifest.retraining.network))
    return MeasuredAccuracy(
        network=network, protocol=protocol, runs=more.pop("runs", 5), mean=mean, spread=0.01, data=data, **more
    )


def manifest(*rows: MeasuredAccuracy) -> Manifest:
    return example_bundle().manifest.model_copy(update={"accuracy": rows})


PICTURES = "columns test, 10-way, 10000 pictures"


@pytest.mark.parametrize(
    ("rows", "mean"),
    [
        ((measured("bundle", 0.5, PICTURES), measured("paper", 0.4, PICTURES)), 0.5),
        ((measured("paper", 0.9, PICTURES), measured("bundle", 0.5, PICTURES)), 0.5),
        ((measured("bundle", 0.5, PICTURES), measured("bundle", 0.6, PICTURES)), 0.6),
        ((measured("bundle", 0.5, PICTURES), measured("bundle", 0.6, PICTURES, network="linear")), 0.5),
        ((measured("paper", 0.3, PICTURES), measured("paper", 0.2, PICTURES)), 0.2),
    ],
)
def test_the_latest_measurement_by_the_memorys_own_schedule_is_stated(
    rows: tuple[MeasuredAccuracy, ...], mean: float
) -> None:
    stated = stated_accuracy(manifest(*rows))
    assert stated is not None
    assert stated.mean == mean


def test_nothing_is_stated_of_a_memory_that_was_not_measured() -> None:
    assert stated_accuracy(manifest()) is None


def test_the_sentence_names_schedule_classes_pictures_and_interval() -> None:
    stated = stated_accuracy(manifest(measured("bundle", 0.47858, "cifar10 test, 10-way, 10000 pictures")))
    assert stated is not None
    assert (stated.classes, stated.pictures) == (10, 10_000)
    assert stated.sentence == (
        "47.9 % ± 1.0 (mean of 5 fresh classifiers by the memory's own schedule) on cifar10 test, 10-way, 10000 "
        "pictures; 95 % interval 46.9 to 48.8 %."
    )


def test_everything_right_on_two_pictures_is_an_interval_and_a_warning() -> None:
    stated = stated_accuracy(manifest(measured("bundle", 1.0, "own test, 2-way, 2 pictures")))
    assert stated is not None
    assert stated.low is not None
    assert stated.low < 0.4
    assert stated.sentence.endswith("95 % interval 34.2 to 100.0 %; only 2 test pictures.")


def test_pictures_are_counted_by_the_confusions_where_they_were_kept() -> None:
    row = measured("paper", 0.75, "some pictures", runs=1, confusions=((3, 1), (1, 3)))
    stated = stated_accuracy(manifest(row))
    assert stated is not None
    assert stated.pictures == 8
    assert f"some pictures, {stated.classes}-way, 8 pictures" in stated.sentence


def test_an_unknown_number_of_pictures_is_said() -> None:
    stated = stated_accuracy(manifest(measured("other", 0.75, "some pictures", runs=1)))
    assert stated is not None
    assert (stated.pictures, stated.low, stated.high) == (None, None, None)
    assert "one fresh classifier by the schedule other" in stated.sentence
    assert stated.sentence.endswith("the number of test pictures was not recorded.")
