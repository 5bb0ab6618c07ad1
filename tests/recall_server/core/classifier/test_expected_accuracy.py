"""The estimated accuracy of a classifier, from its memory's evaluation or from the pictures sent."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recall_server.core.bundle.manifest import Confusions, Manifest, MeasuredAccuracy
from recall_server.core.classifier.expected_accuracy import quality_of_labels, quality_of_pictures
from tests.recall_server.bundle_examples import example_bundle

TABLE = ((6, 2, 2), (1, 9, 0), (5, 5, 0))
MEAN = 15 / 30


def measured(
    confusions: Confusions | None,
    *,
    protocol: str = "bundle",
    network: str = "convnet:filters=4,depth=2",
    runs: int = 2,
) -> MeasuredAccuracy:
    right = sum(row[label] for label, row in enumerate(confusions or ()))
    total = sum(map(sum, confusions or ((1,),)))
    return MeasuredAccuracy(
        network=network,
        protocol=protocol,
        runs=runs,
        mean=right / total,
        spread=0,
        data="some pictures",
        confusions=confusions,
    )


def evaluated(*rows: MeasuredAccuracy) -> Manifest:
    return example_bundle(accuracy=rows).manifest


def test_only_predictions_among_the_requested_labels_count() -> None:
    quality = quality_of_labels(evaluated(measured(TABLE)), ["class 1", "class 0"])
    assert quality is not None
    assert quality.per_label == {"class 1": 9 / 10, "class 0": 6 / 8}
    assert quality.accuracy == pytest.approx((9 / 10 + 6 / 8) / 2)
    assert quality.counts == {"class 1": 5, "class 0": 5}, "pictures, not answers of two networks"
    assert quality.source == "evaluation"
    assert "2 fresh networks" in quality.explanation
    assert "not a test of this classifier" in quality.explanation


def test_all_labels_together_have_the_accuracy_that_was_measured() -> None:
    quality = quality_of_labels(evaluated(measured(TABLE)), [f"class {label}" for label in range(3)])
    assert quality is not None
    assert quality.accuracy == pytest.approx(MEAN)


@pytest.mark.parametrize(
    "table",
    [None, ((4, 0, 0), (0, 0, 0), (0, 0, 4)), ((4, 0, 0), (0, 0, 4), (0, 0, 4))],
    ids=["nothing was counted", "a label without pictures", "a label never taken for one of these"],
)
def test_without_predictions_among_the_labels_there_is_no_estimate(table: Confusions | None) -> None:
    assert quality_of_labels(evaluated(measured(table)), ["class 0", "class 1"]) is None


def test_a_bundle_without_measurements_gives_no_estimate() -> None:
    assert quality_of_labels(evaluated(), ["class 0", "class 1"]) is None


def test_measurements_of_the_bundles_own_schedule_come_first_then_the_latest() -> None:
    perfect = ((10, 0, 0), (0, 10, 0), (0, 0, 10))
    rows = [measured(perfect), measured(TABLE), measured(perfect, protocol="paper"), measured(perfect, network="mlp")]
    quality = quality_of_labels(evaluated(*rows), ["class 0", "class 1"])
    assert quality is not None
    assert quality.per_label["class 1"] == 9 / 10
    other = quality_of_labels(evaluated(rows[2]), ["class 0", "class 1"])
    assert other is not None
    assert other.accuracy == 1, "better the other schedule than nothing"


def brute_force(features: dict[str, Tensor]) -> dict[str, float]:
    """Leave-one-out nearest class mean, literally."""
    shares = {}
    for name, each in features.items():
        right = 0
        for left_out in range(len(each)):
            rest = {
                other: (torch.cat([value[:left_out], value[left_out + 1 :]]) if other == name else value).mean(dim=0)
                for other, value in features.items()
            }
            nearest = min(rest, key=lambda other: float((each[left_out] - rest[other]).norm()))
            right += nearest == name
        shares[name] = right / len(each)
    return shares


def test_each_picture_is_left_out_of_its_own_mean() -> None:
    generator = torch.Generator().manual_seed(3)
    features = {
        name: torch.randn(count, 4, generator=generator, dtype=torch.float64) + shift
        for name, count, shift in (("a", 3, 0.0), ("b", 8, 0.7), ("c", 5, 1.0))
    }
    quality = quality_of_pictures(features)
    assert quality is not None
    assert quality.per_label == pytest.approx(brute_force(features))
    assert 0 < quality.accuracy < 1, "an example in which everything is right or wrong shows nothing"
    assert quality.accuracy == pytest.approx(sum(quality.per_label.values()) / 3)
    assert (quality.counts, quality.source) == ({"a": 3, "b": 8, "c": 5}, "pictures")


def test_the_same_pictures_in_two_classes_are_not_told_apart() -> None:
    same = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    quality = quality_of_pictures({"mine": same, "yours": same.clone()})
    assert quality is not None
    assert quality.accuracy == 0
    constant = quality_of_pictures({"mine": torch.ones(3, 2), "yours": torch.ones(3, 2)})
    assert constant is not None
    assert constant.accuracy == 0, "a tie is no recognition"


@pytest.mark.parametrize(
    "features",
    [
        {},
        {"one": torch.randn(5, 2)},
        {"a": torch.randn(5, 2), "b": torch.randn(2, 2)},
        {"a": torch.randn(3, 2), "b": torch.full((3, 2), torch.nan)},
    ],
    ids=["no class", "one class", "a class of two pictures", "an encoder that gives NaN"],
)
def test_too_few_pictures_give_no_estimate(features: dict[str, Tensor]) -> None:
    assert quality_of_pictures(features) is None
