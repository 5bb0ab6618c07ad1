"""Memories of features: recalled as vectors, trained as heads, and used with pictures like any other classifier."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.torch

from recall_server.api.schemas.schemas import RecallAnswer
from recall_server.errors import NotReady, UnsupportedQuery
from recall_server.jobs.rows.records import JobStatus
from recall_server.library import Library
from recall_server.service import RecallService
from tests.recall_server.feature_examples import FILE, feature_library, write_feature_artifacts
from tests.recall_server.service.examples import OWN, feature_service, pictures
from tests.recall_server.serving_examples import COLUMNS, SIDE, label_bundle, picture
from tests.tolerances import assert_close


@pytest.fixture
def service(tmp_path: Path) -> RecallService:
    return feature_service(feature_library(tmp_path / "artifacts", ("columns", OWN)), tmp_path / "state")


def test_a_head_is_trained_and_predicts_pictures(service: RecallService) -> None:
    record = service.train_labels(["left", "right"]).record
    record = service.jobs.get(record.id)
    assert (record.status, record.network) == (JobStatus.SUCCEEDED, "linear")
    assert (record.image.channels, record.image.height, record.image.width) == (1, SIDE, SIDE)
    said = service.predict(record.id, pictures("left", "right", count=5, seed=500))
    assert [each.label for each in said] == ["left"] * 5 + ["right"] * 5
    assert "linear" in service.classifier_card(record.id)


def test_the_onnx_file_takes_pictures_and_gives_the_same_probabilities(service: RecallService) -> None:
    record = service.train_labels(["left", "middle", "right"]).record
    session = onnxruntime.InferenceSession(service.download(record.id, "onnx"))
    shown = np.stack([picture("middle", seed) for seed in range(4)])[:, None].astype(np.float32) / 255
    (found,) = session.run(["probabilities"], {"images": shown})
    said = service.predict(record.id, pictures("middle", count=4, seed=0))
    assert_close(np.asarray(found), said.probabilities, terms=SIDE * SIDE, gain=20, size=1.0)
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    assert labels == ["left", "middle", "right"]


def test_recalled_features_are_sent_as_numbers(service: RecallService) -> None:
    recalled = service.recall_labels(["right"])
    answer = RecallAnswer.of(recalled)
    (entry,) = answer.recalled
    assert entry.images == [] and entry.features is not None
    assert np.asarray(entry.features).shape == (6, len(COLUMNS))
    encoder = service.library.get("columns").feature_encoder
    assert encoder is not None
    expected = encoder.encode(picture("right", 0)[None, None].astype(np.float32) / 255)
    assert_close(np.asarray(entry.features[0], dtype=np.float32), expected[0], terms=4, size=1.0)
    tensors = safetensors.torch.load(recalled.to_safetensors())
    assert set(tensors) == {"features", "targets"}
    with pytest.raises(UnsupportedQuery, match="right is recalled as features of an encoder, which are no images"):
        recalled.to_contact_sheet()


def test_classes_of_two_memories_of_one_encoder_make_one_classifier(tmp_path: Path) -> None:
    library = feature_library(
        tmp_path / "artifacts", ("some", {"left": "west", "middle": "centre"}), ("other", {"right": "east"})
    )
    assert library.get("some").feature_encoder is library.get("other").feature_encoder, "it is loaded once"
    service = feature_service(library, tmp_path / "state")
    record = service.train_labels(["west", "east"]).record
    assert {each.name for each in record.bundles} == {"some", "other"}
    said = service.predict(record.id, pictures("left", "right", count=4, seed=700))
    assert [each.label for each in said] == ["west"] * 4 + ["east"] * 4


def test_images_are_encoded_to_be_combined_with_features(tmp_path: Path) -> None:
    folder = write_feature_artifacts(tmp_path / "artifacts", ("some", {"left": "west"}))
    label_bundle("images", tuple(COLUMNS)).save(folder / "bundles" / "images.safetensors")
    service = feature_service(Library.load(folder, device="cpu"), tmp_path / "state")
    record = service.train_labels(["west", "right"]).record
    assert record.bundle.name == "some", "features lead"
    said = service.predict(record.id, pictures("left", "right", count=4, seed=700))
    assert [each.label for each in said] == ["west"] * 4 + ["right"] * 4


def test_features_of_different_encoders_are_not_mixed(tmp_path: Path) -> None:
    one = feature_library(tmp_path / "one", ("some", {"left": "west"}))
    folder = write_feature_artifacts(tmp_path / "two", ("other", {"right": "east"}), size=2)
    both = Library(one.bundles | Library.load(folder, device="cpu").bundles)
    with pytest.raises(UnsupportedQuery, match="hold features of different encoders"):
        feature_service(both, tmp_path / "state").train_labels(["west", "east"])


def test_without_its_encoder_a_classifier_says_what_is_missing(tmp_path: Path) -> None:
    library = feature_library(tmp_path / "artifacts", ("columns", OWN))
    service = feature_service(library, tmp_path / "state")
    record = service.train_labels(["left", "right"]).record
    service._library = Library({})
    with pytest.raises(NotReady, match="which is not loaded any more; put its file, or a bundle that names it, back"):
        service.predict(record.id, pictures("left"))


@pytest.mark.parametrize("fault", ["missing", "changed", "of another size"])
def test_a_bundle_without_exactly_its_encoder_is_rejected(fault: str, tmp_path: Path) -> None:
    folder = write_feature_artifacts(tmp_path, ("columns", OWN))
    file = folder / "encoders" / FILE
    if fault == "missing":
        file.unlink()
    elif fault == "changed":
        file.write_bytes(file.read_bytes() + b"\0")
    else:
        write_feature_artifacts(tmp_path, size=2)
    (rejected,) = Library.load(folder, device="cpu").rejected
    assert ("is missing" if fault == "missing" else "has sha256") in rejected.reason
