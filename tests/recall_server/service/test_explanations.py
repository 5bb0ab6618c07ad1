"""An explanation names the recalled items by what a head without them would have said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.training.heads.leave_one_out import log_odds
from recall_server.errors import InvalidRequest, NotFound, NotReady, UnsupportedQuery
from recall_server.library import Library
from recall_server.recall import BundleQuery, build_training_set
from recall_server.recall.uploads import decode_all
from recall_server.service import RecallService, explanations
from tests.recall_server.feature_examples import feature_library, knowing_artifacts, write_feature_artifacts
from tests.recall_server.service.examples import OWN, feature_service, lazy_service, pictures
from tests.recall_server.serving_examples import COLUMNS, ROWS, label_bundle
from tests.tolerances import rounding

SHOWN = pictures("left", count=1, seed=500)


@pytest.fixture
def service(tmp_path: Path) -> RecallService:
    """A service with a memory that recalls ROWS items for each column, for a schedule of 30 steps."""
    return feature_service(feature_library(tmp_path / "artifacts", ("columns", OWN)), tmp_path / "state")


def test_an_influence_is_what_training_without_the_item_changes(service: RecallService) -> None:
    record = service.train_labels(["left", "middle", "right"]).record
    found = service.explainer.explain(record.id, SHOWN, label="middle", top=100)
    assert (found.label, found.predicted, found.items) == ("middle", "left", 3 * ROWS)
    assert len(found.supporting) + len(found.opposing) <= found.items
    assert [each.influence for each in found.supporting] == sorted(
        (e.influence for e in found.supporting), reverse=True
    )
    assert [each.influence for each in found.opposing] == sorted(each.influence for each in found.opposing)

    loaded = service.library.get("columns")
    asked = loaded.bundle.label_queries(["left", "middle", "right"])
    recalled = build_training_set([BundleQuery(loaded.bundle, vector) for vector in asked])
    assert loaded.feature_encoder is not None
    pixels = decode_all(SHOWN, loaded.feature_encoder.image_shape, limits=service._limits(explanations.DIRECT))
    features = torch.from_numpy(loaded.feature_encoder.encode(pixels))

    def odds(left_out: int | None) -> float:
        """By a training in float32 of one item for each query, in which every step uses all of them."""
        kept = [at for at in range(3 * ROWS) if at != left_out]
        items = recalled.images.flatten(0, 1)[kept].unsqueeze(1)
        targets = torch.eye(3).repeat_interleave(ROWS, dim=0)[kept].unsqueeze(1)
        classifier = FreshClassifier(OWN, items.shape[2:], recalled.preprocessing, recalled.retraining)
        head = classifier.fit(items, targets).linear_head()
        return float(log_odds(head.logits(features)[0].double(), 1))

    both = odds(None)
    tolerance = rounding(torch.float32, terms=3 * ROWS * recalled.retraining.steps, gain=10) * abs(both)
    assert found.log_odds == pytest.approx(both, abs=tolerance)
    for each in (*found.supporting, *found.opposing):
        at = list(OWN).index(each.label) * ROWS + each.row
        assert each.influence == pytest.approx(both - odds(at), abs=2 * tolerance)
        assert each.bundle == "columns"


def test_the_items_of_the_right_class_speak_for_it(service: RecallService) -> None:
    record = service.train_labels(["left", "right"]).record
    found = service.explainer.explain(record.id, SHOWN, top=3)
    assert found.label == found.predicted == "left"
    assert {each.label for each in found.supporting} == {"left"}
    assert len(found.supporting) == 3
    assert all(each.probability_without < found.probability for each in found.supporting)


def test_a_memory_that_holds_a_head_has_one_item_for_each_class(tmp_path: Path) -> None:
    folder = knowing_artifacts(tmp_path / "artifacts", *COLUMNS)
    (path,) = (folder / "bundles").iterdir()
    bundle = MemoryBundle.load(path)
    one_step = bundle.manifest.retraining.model_copy(update={"steps": 1, "rows_per_class": 1})
    replace(bundle, manifest=bundle.manifest.model_copy(update={"retraining": one_step})).save(path)
    service = feature_service(Library.load(folder, device="cpu"), tmp_path / "state")
    record = service.train_labels(list(COLUMNS)).record
    found = service.explainer.explain(record.id, SHOWN)
    said = service.predict(record.id, SHOWN)[0]
    assert found.items == 3
    assert (found.supporting[0].label, found.supporting[0].row) == ("left", 0)
    assert found.probability == pytest.approx(said.probabilities["left"], abs=rounding(torch.float32, terms=100))


def test_items_of_several_memories_are_named_by_their_memory(tmp_path: Path) -> None:
    library = feature_library(
        tmp_path / "artifacts", ("some", {"left": "west", "middle": "centre"}), ("other", {"right": "east"})
    )
    service = feature_service(library, tmp_path / "state")
    record = service.train_labels(["west", "east"]).record
    found = service.explainer.explain(record.id, SHOWN, top=100)
    sides = (*found.supporting, *found.opposing)
    assert {(each.label, each.bundle) for each in sides} == {("west", "some"), ("east", "other")}


def test_the_second_explanation_does_not_train_again(service: RecallService, monkeypatch: pytest.MonkeyPatch) -> None:
    record = service.train_labels(["left", "right"]).record
    first = service.explainer.explain(record.id, SHOWN)
    monkeypatch.setattr(explanations, "build_training_set", None)
    assert service.explainer.explain(record.id, SHOWN) == first
    service.jobs.delete(record.id)
    with pytest.raises(NotFound):
        service.explainer.explain(record.id, SHOWN)


def test_what_is_no_head_of_recalled_features_is_refused(tmp_path: Path) -> None:
    folder = write_feature_artifacts(tmp_path / "artifacts", ("features", OWN))
    label_bundle("images", ("near", "far", "else")).save(folder / "bundles" / "images.safetensors")
    service = feature_service(Library.load(folder, device="cpu"), tmp_path / "state")
    network = service.train_labels(["near", "far"]).record
    with pytest.raises(UnsupportedQuery, match="this one is no linear head in features; train one from labels"):
        service.explainer.explain(network.id, SHOWN)
    shown = service.train_pictures(pictures("left", "right")).record
    with pytest.raises(UnsupportedQuery, match="this one was made from pictures, which are not kept"):
        service.explainer.explain(shown.id, SHOWN)


@pytest.mark.parametrize(("count", "label"), [(0, None), (2, None), (1, "lift"), (1, "\N{PILE OF POO}" * 300)])
def test_a_request_that_names_no_picture_or_no_class_is_refused(
    service: RecallService, count: int, label: str | None
) -> None:
    record = service.train_labels(["left", "right"]).record
    with pytest.raises(InvalidRequest) as caught:
        service.explainer.explain(record.id, pictures("left", count=count), label=label)
    assert caught.value.parameter == ("images" if label is None else "label")
    assert label != "lift" or "did you mean 'left'?" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_without_its_memory_a_classifier_cannot_be_explained(service: RecallService) -> None:
    record = service.train_labels(["left", "right"]).record
    loaded = service.library.get("columns")
    other = Library(service.library.bundles)
    object.__setattr__(other.bundles["columns"].bundle, "sha256", "0" * 64)
    assert loaded.feature_encoder is not None
    with pytest.raises(NotReady, match="from the memory 'columns' with sha256 .*, which is not loaded any more"):
        service.explainer.explain(record.id, SHOWN)


def test_a_head_that_its_memory_does_not_give_any_more_is_refused(
    service: RecallService, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = service.train_labels(["left", "right"]).record

    def another(queries: list[BundleQuery]) -> object:
        found = build_training_set(queries)
        object.__setattr__(found, "images", 2 * found.images)
        return found

    monkeypatch.setattr(explanations, "build_training_set", another)
    with pytest.raises(UnsupportedQuery, match="its memories now give another head"):
        service.explainer.explain(record.id, SHOWN)


def test_a_classifier_in_training_is_not_ready(tmp_path: Path) -> None:
    service, _ = lazy_service(feature_library(tmp_path / "artifacts", ("columns", OWN)), tmp_path / "state")
    record = service.train_labels(["left", "right"]).record
    with pytest.raises(NotReady):
        service.explainer.explain(record.id, SHOWN)
