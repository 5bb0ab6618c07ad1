"""Classifiers from labels: train, predict, take away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from recall_server.config import Settings
from recall_server.errors import InvalidRequest, NotFound, NotReady, UnreadablePicture, UnsupportedQuery
from recall_server.jobs.rows.records import ClassifierRecord, JobStatus
from recall_server.library import Library, LoadedBundle
from recall_server.recall import Picture
from recall_server.service import RecallService
from recall_server.service.training_request import MOST_NAME_BYTES
from tests.recall_server.service.examples import Serve, lazy_service, pictures
from tests.recall_server.serving_examples import COLUMNS, label_bundle, picture, png
from tests.tolerances import assert_close


def accuracy(service: RecallService, record: ClassifierRecord, *labels: str) -> float:
    shown = pictures(*labels, count=20, seed=1000)
    predictions = service.predict(record.id, shown)
    return sum(each.label == sent.part for each, sent in zip(predictions, shown, strict=True)) / len(shown)


def test_a_classifier_of_labels_generalises(service: RecallService) -> None:
    record = service.train_labels(["right", "LEFT"], seed=4).record
    assert (record.labels, record.queries, record.pictures, record.seed) == (("right", "left"), "labels", None, 4)
    finished = service.jobs.get(record.id)
    assert finished.status is JobStatus.SUCCEEDED
    assert finished.file is not None
    assert accuracy(service, record, "right", "left") > 0.95


def test_a_classifier_of_pictures_has_their_names(service: RecallService) -> None:
    record = service.train_pictures(pictures("left", "right", count=2)).record
    assert (record.labels, record.queries, record.pictures) == (
        ("left", "right"),
        "images",
        {"left": 2, "right": 2},
    )
    assert accuracy(service, record, "left", "right") > 0.95


def test_probabilities_are_of_each_label_and_sum_to_one(service: RecallService) -> None:
    record = service.train_labels(["left", "right", "middle"], bundle="columns").record
    (prediction,) = service.predict(record.id, pictures("middle", count=1))
    assert list(prediction.probabilities) == ["left", "right", "middle"]
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.probabilities[prediction.label] == max(prediction.probabilities.values())


def test_the_same_request_and_seed_give_the_same_file_and_another_seed_another(service: RecallService) -> None:
    def data(seed: int) -> bytes:
        return service.download(service.train_labels(["left", "right"], seed=seed).record.id, "safetensors")

    first = data(1)
    assert first == data(1)
    assert first != data(2)

    def few_shot(seed: int) -> bytes:
        return service.download(service.train_pictures(pictures("left", "right"), seed=seed).record.id, "safetensors")

    assert few_shot(1) == few_shot(1)


def test_a_downloaded_onnx_file_predicts_the_same_without_this_project(service: RecallService) -> None:
    record = service.train_labels(["left", "right"]).record
    session = onnxruntime.InferenceSession(service.download(record.id, "onnx"))
    shown = picture("right", 5)
    (probabilities,) = session.run(None, {"images": shown[None, None].astype(np.float32) / 255})
    (prediction,) = service.predict(record.id, [Picture("images", "", png(shown))])
    told = list(prediction.probabilities.values())
    assert_close(probabilities[0].tolist(), told, terms=9 * 8 * 8, size=1, dtype=torch.float32)


@pytest.mark.parametrize("letter", ["a", "\N{GRINNING FACE}", "\N{CJK UNIFIED IDEOGRAPH-6F22}"])
def test_the_names_of_all_classes_are_bounded_in_bytes(service: RecallService, letter: str) -> None:
    size = len(letter.encode())
    names = [f"{number:03}" + letter * ((MOST_NAME_BYTES // 200 - 3) // size + 1) for number in range(200)]
    with pytest.raises(InvalidRequest, match="more than the 65,536 of one classifier; use shorter names") as caught:
        service.train_labels(names)
    assert caught.value.parameter == "labels"
    with pytest.raises(InvalidRequest, match="use shorter names"):
        service.train_pictures([Picture(name, "", b"") for name in names])


@pytest.mark.parametrize(
    ("labels", "error", "sentence"),
    [
        ([], InvalidRequest, "needs two or more; this request names none"),
        (["left"], InvalidRequest, "needs two or more; this request names one"),
        (["left", "LEFT"], InvalidRequest, "named twice"),
    ],
)
def test_labels_that_make_no_classifier_are_refused(
    service: RecallService, labels: list[str], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        service.train_labels(labels)
    assert service.jobs.page(10).entries == ()


def test_a_classifier_of_two_bundles_names_them_and_has_no_estimate(
    service: RecallService,
) -> None:
    record = service.train_labels(["left", "places:middle", "far"], seed=1).record
    assert [each.name for each in record.bundles] == ["columns", "places"]
    assert record.bundle.name == "places", "whose images are the larger ones"
    assert (record.image.height, record.quality) == (16, None)
    (note,) = record.notes
    assert "2 memories (columns, places)" in note
    assert "never measured" in note
    shown = [*pictures("left", count=5), *pictures("right", count=5, seed=400)]
    assert [each.label for each in service.predict(record.id, shown)] == ["left"] * 5 + ["far"] * 5
    card = service.classifier_card(record.id)
    assert note in card
    assert card.count("SHA-256 of the memory") == 2
    assert service.train_labels(["left", "places:middle", "far"], seed=1).record.id == record.id


def test_the_same_label_of_two_bundles_is_qualified_by_its_bundle(service: RecallService) -> None:
    record = service.train_labels(["columns:middle", "places:middle"]).record
    assert record.labels == ("columns:middle", "places:middle")
    assert service.jobs.get(record.id).status is JobStatus.SUCCEEDED


def test_a_group_is_recalled_trained_and_counted_as_its_labels(tmp_path: Path, serve: Serve) -> None:
    grouped = label_bundle("columns", tuple(COLUMNS), groups={"edges": ("right", "left")})
    library = Library({"columns": LoadedBundle(grouped)})
    service = RecallService(library, serve().jobs, Settings(state=tmp_path, max_classes=2))
    assert [entry.query.name for entry in service.recall_labels(["edges"]).queries] == ["right", "left"]
    assert service.train_labels(["edges"]).record.labels == ("right", "left")
    with pytest.raises(InvalidRequest, match="3 classes are more than the 2"):
        service.train_labels(["edges", "middle"])
    with pytest.raises(UnsupportedQuery, match="a mixture weighs single labels, which 'edges' is not"):
        service.recall_mixtures([{"edges": 0.5, "middle": 0.5}])


def test_more_classes_or_numbers_than_allowed_are_refused(serve: Serve) -> None:
    with pytest.raises(InvalidRequest, match="3 classes are more than the 2"):
        serve(max_classes=2).train_labels(["left", "right", "middle"])
    with pytest.raises(InvalidRequest, match="training on 2 classes takes 768 numbers of images"):
        serve(max_recalled_numbers=767).train_labels(["left", "right"])
    with pytest.raises(InvalidRequest, match="training on 2 classes takes 3,072 numbers of images"):
        serve(max_recalled_numbers=3071).train_labels(["left", "far"])  # of 16x16, as both will be


def test_only_a_classifier_that_succeeded_can_be_used(library: Library, tmp_path: Path) -> None:
    service, backend = lazy_service(library, tmp_path)
    record = service.train_labels(["left", "right"]).record
    with pytest.raises(NotReady, match="it is queued"):
        service.predict(record.id, pictures("left"))
    with pytest.raises(NotReady, match="it is queued"):
        service.download(record.id, "onnx")
    backend.perform()
    assert service.predict(record.id, pictures("left"))
    with pytest.raises(NotFound, match="no classifier has the id 'nobody'"):
        service.predict("nobody", pictures("left"))


def test_a_prediction_needs_pictures_that_can_be_read(service: RecallService) -> None:
    record = service.train_labels(["left", "right"]).record
    with pytest.raises(InvalidRequest, match="send one picture or more"):
        service.predict(record.id, [])
    with pytest.raises(UnreadablePicture, match="the picture 'b' of the part 'images'"):
        service.predict(record.id, [*pictures("left"), Picture("images", "b", b"?")])
