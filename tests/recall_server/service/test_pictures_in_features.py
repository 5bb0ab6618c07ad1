"""Pictures of classes that nobody named, in the features of an encoder: alone, and among the labels of a memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recall_server.errors import InvalidRequest, UnsupportedQuery
from recall_server.jobs.rows.records import JobStatus
from recall_server.library import Library
from recall_server.recall import Picture
from recall_server.service import RecallService
from tests.recall_server.feature_examples import (
    FILE,
    described,
    feature_library,
    knowing_artifacts,
    soft_encoder,
    write_feature_artifacts,
)
from tests.recall_server.service.examples import named, pictures, service_with
from tests.recall_server.serving_examples import (
    COLUMNS,
    SIDE,
    ManualBackend,
    column_encoder,
    label_bundle,
    png,
    write_artifacts,
)

TWO = {"west": "left", "east": "right"}


def serve(library: Library, state: Path) -> RecallService:
    return service_with(ManualBackend(), library, state)


@pytest.fixture
def knowing(tmp_path: Path) -> RecallService:
    """A service with a memory that says how its classes vary."""
    return serve(Library.load(knowing_artifacts(tmp_path / "artifacts", *COLUMNS), device="cpu"), tmp_path / "state")


def labels_of(service: RecallService, identifier: str, shown: list[Picture]) -> list[str]:
    return [each.label for each in service.predict(identifier, shown)]


def test_a_classifier_of_pictures_is_ready_at_once_and_says_how_each_way_did(knowing: RecallService) -> None:
    receipt = knowing.train_pictures(named(TWO))
    record = knowing.jobs.get(receipt.record.id)
    assert (record.status, record.network, receipt.work) == (JobStatus.SUCCEEDED, "linear", 0)
    assert record.ways is not None
    assert set(record.ways) == {"pictures", "prototypes", "recalled", "together"}
    assert record.addressing in record.ways
    assert all(score.pictures == 6 for score in record.ways.values())
    assert f"Chosen: {record.addressing}." in record.notes[0]
    assert record.quality is not None
    assert record.quality.counts == {"west": 3, "east": 3}
    shown = pictures("left", "right", count=4, seed=700)
    assert labels_of(knowing, record.id, shown) == ["west"] * 4 + ["east"] * 4
    assert "west" in knowing.classifier_card(record.id)


def test_it_says_of_each_picture_how_familiar_it_is(knowing: RecallService) -> None:
    record = knowing.train_pictures(named(TWO)).record
    known = knowing.predict(record.id, pictures("left", "right", count=10, seed=700))
    strange = knowing.predict(record.id, pictures("middle", count=10, seed=700))
    assert known.familiarity is not None
    assert strange.familiarity is not None
    assert known.familiarity.mean() > strange.familiarity.mean()
    assert [each.none_of_these for each in known] == (known.familiarity < 0.2).tolist()
    every = knowing.predict(record.id, pictures("left"), none_below=1.0)
    assert all(each.none_of_these for each in every)


@pytest.mark.parametrize("other", [{}, {"left": "west"}], ids=["one memory", "two memories"])
def test_a_classifier_of_labels_says_so_too(tmp_path: Path, other: dict[str, str]) -> None:
    folder = knowing_artifacts(tmp_path / "artifacts", "left", "middle", "right", encoder=soft_encoder())
    if other:
        write_feature_artifacts(folder, ("other", other), encoder=soft_encoder())
    service = service_with(ManualBackend(eager=True), Library.load(folder, device="cpu"), tmp_path / "state")
    record = service.train_labels([other.get("left", "left"), "right"]).record
    familiar = service.predict(record.id, pictures("left", "right", count=10, seed=700)).familiarity
    strange = service.predict(record.id, pictures("middle", count=10, seed=700)).familiarity
    assert familiar is not None
    assert strange is not None
    assert familiar.mean() > strange.mean() + 0.2


def test_single_pictures_are_enough_and_nothing_is_compared(knowing: RecallService) -> None:
    record = knowing.train_pictures(named(TWO, count=1)).record
    assert (record.addressing, record.ways, record.quality) == ("together", None, None)
    assert "nothing to compare" in record.notes[0]
    assert labels_of(knowing, record.id, pictures("left", "right", seed=700)) == ["west"] * 3 + ["east"] * 3


def test_without_a_memory_that_knows_classes_the_pictures_are_on_their_own(tmp_path: Path) -> None:
    service = serve(feature_library(tmp_path / "artifacts", ("some", {"middle": "middle"})), tmp_path / "state")
    record = service.train_pictures(named(TWO)).record
    assert record.ways is not None
    assert set(record.ways) == {"pictures", "prototypes"}
    assert "No loaded memory says how its classes vary" in record.notes[0]
    assert service.predict(record.id, pictures("left")).familiarity is None
    with pytest.raises(UnsupportedQuery, match="No loaded memory says how its classes vary"):
        service.train_pictures(named(TWO), addressing="recalled")


def test_an_encoder_that_describes_itself_is_enough(tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "encoders").mkdir(parents=True)
    (tmp_path / "artifacts" / "encoders" / FILE).write_bytes(described(column_encoder()))
    service = serve(Library.load(tmp_path / "artifacts", device="cpu"), tmp_path / "state")
    record = service.train_pictures(named(TWO)).record
    assert record.bundle.name == "columns"
    assert labels_of(service, record.id, pictures("left", "right", seed=700)) == ["west"] * 3 + ["east"] * 3


def test_an_encoder_that_cannot_be_used_is_passed_over(tmp_path: Path) -> None:
    folder = write_artifacts(tmp_path / "artifacts")
    (folder / "encoders" / "a.onnx").write_bytes(b"no network")
    service = serve(Library.load(folder, device="cpu"), tmp_path / "state")
    record = service.train_pictures(named(TWO)).record
    assert (record.addressing, record.bundle.name) == ("images", "columns-images")
    with pytest.raises(UnsupportedQuery, match="together needs an encoder of features"):
        service.train_pictures(named(TWO), addressing="together")


@pytest.mark.parametrize("asked", [{"bundle": "columns"}, {"addressing": "classify"}, {"own_pictures": False}])
def test_a_memory_of_images_is_used_where_it_is_asked_for(tmp_path: Path, asked: dict[str, object]) -> None:
    folder = write_feature_artifacts(tmp_path / "artifacts", ("some", {"middle": "middle"}))
    label_bundle("columns", tuple(COLUMNS)).save(folder / "bundles" / "columns.safetensors")
    service = serve(Library.load(folder, device="cpu"), tmp_path / "state")
    options = {"bundle": "columns"} | asked
    assert service.train_pictures(named(TWO), **options).record.addressing == "classify"  # type: ignore[arg-type]


def test_classes_of_pictures_stand_among_labels(knowing: RecallService) -> None:
    record = knowing.train_pictures(named({"east": "right"}), labels=["left", "middle"]).record
    assert record.labels == ("left", "middle", "east")
    assert (record.pictures, record.addressing) == ({"east": 3}, "recalled")
    shown = pictures("left", "middle", "right", seed=700)
    assert labels_of(knowing, record.id, shown) == ["left"] * 3 + ["middle"] * 3 + ["east"] * 3


def test_one_label_and_one_class_of_pictures_are_two_classes(knowing: RecallService) -> None:
    record = knowing.train_pictures(named({"east": "right"}), labels=["left"]).record
    assert record.labels == ("left", "east")
    with pytest.raises(InvalidRequest, match="two or more"):
        knowing.train_pictures(named({"east": "right"}))


def test_a_class_may_be_a_label_and_have_pictures(knowing: RecallService) -> None:
    record = knowing.train_pictures(named({"east": "right", "left": "left"}), labels=["middle", "left"]).record
    assert record.labels == ("middle", "left", "east")
    assert record.pictures == {"east": 3, "left": 3}
    shown = pictures("left", "middle", "right", seed=700)
    assert labels_of(knowing, record.id, shown) == ["left"] * 3 + ["middle"] * 3 + ["east"] * 3


def test_pictures_of_a_label_change_what_is_predicted_for_their_like(knowing: RecallService) -> None:
    shown = pictures("right", seed=700)
    classes = []
    for more in ({}, {"left": "right"}):
        record = knowing.train_pictures(named({"west": "left"} | more), labels=["middle", "left"]).record
        assert record.labels == ("middle", "left", "west")
        classes.append(knowing.predict(record.id, shown).probabilities[:, 1].mean())
    assert classes[1] > classes[0] + 0.1


def test_labels_of_images_do_not_meet_pictures(tmp_path: Path) -> None:
    folder = knowing_artifacts(tmp_path / "artifacts", "left", "middle")
    label_bundle("images", ("a", "b", "c")).save(folder / "bundles" / "images.safetensors")
    service = serve(Library.load(folder, device="cpu"), tmp_path / "state")
    with pytest.raises(UnsupportedQuery, match="a is a label of images, a memory of images"):
        service.train_pictures(named({"east": "right"}), labels=["a", "left"])


def test_labels_in_the_features_of_two_encoders_do_not_meet(tmp_path: Path) -> None:
    one = Library.load(knowing_artifacts(tmp_path / "one", "left", "middle"), device="cpu")
    two = feature_library(tmp_path / "two", ("other", {"right": "east"}))
    service = serve(Library(one.bundles | two.bundles), tmp_path / "state")
    with pytest.raises(UnsupportedQuery, match="knowing and other hold features of different encoders"):
        service.train_pictures(named({"mine": "middle"}), labels=["left", "east"])


def test_labels_need_a_memory_that_says_how_classes_vary(tmp_path: Path) -> None:
    service = serve(feature_library(tmp_path / "artifacts", ("some", {"left": "west"})), tmp_path / "state")
    with pytest.raises(UnsupportedQuery, match="send pictures of all classes instead"):
        service.train_pictures(named({"east": "right"}), labels=["west"])


@pytest.mark.parametrize("addressing", ["pictures", "prototypes", "recalled", "together"])
def test_every_way_can_be_asked_for(knowing: RecallService, addressing: str) -> None:
    record = knowing.train_pictures(named(TWO), addressing=addressing).record  # type: ignore[arg-type]
    assert (record.addressing, record.ways) == (addressing, None)
    assert labels_of(knowing, record.id, pictures("left", "right", seed=700)) == ["west"] * 3 + ["east"] * 3


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (SIDE, SIDE, 3), (SIDE, SIDE, 4)])
def test_odd_pictures_are_pictures(knowing: RecallService, shape: tuple[int, ...]) -> None:
    odd = np.full(shape, 200, dtype=np.uint8)
    shown = [*named(TWO), Picture(part="west", filename="odd.png", data=png(odd))]
    assert knowing.train_pictures(shown).record.pictures == {"west": 4, "east": 3}
