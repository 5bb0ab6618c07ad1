"""What a bundle may say about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import Budget, Manifest, MeasuredAccuracy, RunProgress, ValidationPoint
from tests.recall_server.bundle_examples import example_bundle, example_manifest, example_memory, example_preprocessing


@pytest.mark.parametrize("label", ["bear\x00", "bear\x85", "a\u2028b", "bear\t", "\u2066bear", "bear:deer", " "])
def test_labels_that_would_mislead_are_refused(label: str) -> None:
    with pytest.raises(ValueError, match="must not"):
        example_bundle(labels=("a", "b", label))


@pytest.mark.parametrize("label", ["T-shirt/top", "0", "Käfer", "灰熊", "नेवला", "می‌خواهم", "👩‍🚀", "it's"])
def test_labels_of_every_language_are_kept(label: str) -> None:
    """Joiners stay: Persian, Hindi and emoji need them."""
    bundle = MemoryBundle.from_bytes(example_bundle(labels=("a", "b", label)).to_bytes())
    assert bundle.labels[2] == label


def test_a_budget_may_be_used_up_to_its_last_number() -> None:
    """115 / (7 * 64) images for each of 7 classes of 64 numbers come to 114.99999999999999 in floats."""
    memory, preprocessing = example_memory(labels=7, rows=1, bases=5), example_preprocessing()
    assert memory.stored_numbers() == 115
    budget = Budget(images_per_class=115 / (7 * 64), numbers_stored=115, dataset_bytes=1)
    assert example_manifest(memory, preprocessing, budget=budget).budget == budget


def test_a_manifest_cannot_be_changed_afterwards() -> None:
    manifest: Any = example_bundle().manifest
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "other"


def test_accuracy_is_a_fraction() -> None:
    with pytest.raises(ValueError, match="less than or equal to 1"):
        MeasuredAccuracy(network="n", protocol="p", runs=5, mean=85.0, spread=0.3, data="test set")


def test_a_manifest_is_equal_after_a_round_trip_through_json() -> None:
    manifest = example_bundle(groups={"pair": ("class 0", "class 2")}).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest


def curve(*steps: int) -> RunProgress:
    points = (ValidationPoint(outer_steps=step, minutes=0.5 * step, accuracy=0.5) for step in steps)
    return RunProgress(version=1, minutes=3.0, validation=tuple(points))


def test_a_manifest_records_the_progress_of_its_run() -> None:
    manifest = example_bundle(progress=curve(0, 2, 5)).manifest
    assert Manifest.from_json(manifest.to_json()).progress == curve(0, 2, 5)


@pytest.mark.parametrize("steps", [(2, 0), (0, 0)])
def test_a_curve_that_goes_back_is_refused(steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="in the order of their outer steps, each once"):
        curve(*steps)


def test_networks_can_begin_with_the_encoder_only_if_there_is_one() -> None:
    warm = example_bundle().manifest.retraining.model_copy(update={"initial": "encoder"})
    encoder = {"file": "a.onnx", "sha256": "0" * 64, "query_size": 3}
    manifest = example_bundle(retraining=warm, queries="images", query_encoder=encoder).manifest
    assert '"initial":"encoder"' in manifest.to_json()
    assert Manifest.from_json(manifest.to_json()) == manifest
    with pytest.raises(ValueError, match="has no encoder for its classifiers to begin with"):
        example_bundle(retraining=warm)


def test_a_manifest_records_the_loss_of_classifiers() -> None:
    regression = example_bundle().manifest.retraining.model_copy(update={"loss": "squared_error"})
    manifest = example_bundle(retraining=regression).manifest
    assert '"loss":"squared_error"' in manifest.to_json()
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_file_of_an_earlier_format_is_refused_with_its_version() -> None:
    text = example_bundle().manifest.to_json().replace('"format_version":3', '"format_version":2')
    with pytest.raises(ValueError, match="the format version is 2; this code reads 3"):
        Manifest.from_json(text)


def counted(*table: tuple[int, ...]) -> MeasuredAccuracy:
    right = sum(row[label] for label, row in enumerate(table)) / sum(map(sum, table))
    return MeasuredAccuracy(network="n", protocol="p", runs=2, mean=right, spread=0, data="d", confusions=table)


def test_a_manifest_records_confusions() -> None:
    """A label without test pictures has a row of zeros."""
    row = counted((4, 2, 0), (0, 0, 0), (1, 1, 6))
    manifest = example_bundle(accuracy=(row,)).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert '"confusions":[[4,2,0],[0,0,0],[1,1,6]]' in manifest.to_json()


SERVED = Path(__file__).parents[4] / "artifacts" / "bundles"


@pytest.mark.parametrize("path", sorted(SERVED.glob("*.safetensors")))
def test_committed_bundles_have_the_bytes_that_this_code_writes(path: Path) -> None:
    bundle = MemoryBundle.load(path)
    assert bundle.to_bytes() == path.read_bytes()
