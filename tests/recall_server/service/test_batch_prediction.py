"""Requests that are predicted together get the answers that they get apart, and none is harmed by another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.hostile_files import flat_webp
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import Abandoned, InvalidRequest, NotFound, Overloaded, UnreadablePicture
from recall_server.recall import Picture, Upload
from recall_server.service import RecallService
from recall_server.service.batch_prediction import TOGETHER, MustBeDecodedFirst, Outcome, PredictionRequest
from recall_server.service.predictions import Predictions
from tests.recall_server.feature_examples import feature_library
from tests.recall_server.service.examples import pictures, service_with
from tests.recall_server.serving_examples import COLUMNS, SIDE, ManualBackend
from tests.tolerances import assert_close


def asked(identifier: str, *labels: str, count: int = 2, seed: int = 500, **options: Any) -> PredictionRequest:
    return PredictionRequest(identifier, pictures(*labels, count=count, seed=seed), **options)


def labels_of(outcome: Outcome) -> list[str]:
    assert isinstance(outcome, Predictions), outcome
    return [each.label for each in outcome]


@pytest.fixture
def classifiers(service: RecallService) -> list[str]:
    return [service.train_labels(["left", "right"], seed=seed).record.id for seed in range(2)]


@pytest.fixture
def of_features(tmp_path: Path) -> RecallService:
    library = feature_library(tmp_path / "artifacts", ("columns", {column: column for column in COLUMNS}))
    return service_with(ManualBackend(eager=True), library, tmp_path / "state")


def test_batched_and_single_predictions_agree_up_to_rounding(service: RecallService, classifiers: list[str]) -> None:
    one, two = classifiers
    requests = [asked(one, "left", count=3), asked(two, "right"), asked(one, "right", count=1), asked(two, "left")]
    together = service.batches.predict(requests)
    assert [labels_of(each) for each in together] == [["left"] * 3, ["right"] * 2, ["right"], ["left"] * 2]
    for request, outcome in zip(requests, together, strict=True):
        (apart,) = service.batches.predict([request])
        assert isinstance(apart, Predictions) and isinstance(outcome, Predictions)
        assert_close(outcome.probabilities, apart.probabilities, terms=SIDE * SIDE * 8, gain=20, size=1.0)


def test_heads_of_one_encoder_share_its_batch(of_features: RecallService, monkeypatch: pytest.MonkeyPatch) -> None:
    service, sizes = of_features, []
    original = QueryEncoder.encode

    def counted(self: QueryEncoder, pixels: Any) -> Any:
        sizes.append(len(pixels))
        return original(self, pixels)

    made = [service.train_labels(labels).record.id for labels in (["left", "right"], ["middle", "right"])]
    monkeypatch.setattr(QueryEncoder, "encode", counted)
    first, second = service.batches.predict([asked(made[0], "left"), asked(made[1], "middle", count=3)])
    assert (labels_of(first), labels_of(second)) == (["left"] * 2, ["middle"] * 3)
    assert sizes == [5]
    assert service.batches.key(made[0]) == service.batches.key(made[1]) != made[0]


def test_a_faulty_request_does_not_affect_others_in_its_batch(service: RecallService, classifiers: list[str]) -> None:
    broken = PredictionRequest(classifiers[0], [Picture("images", "a.png", b"GIF89a")])

    def refuse(_: int) -> None:
        raise Overloaded("too many pixels", retry_after=1)

    requests = [
        broken,
        asked("0" * 32, "left"),
        asked(classifiers[0], "left"),
        asked(classifiers[0]),
        asked(classifiers[0], "left", upload=Upload(charge=refuse)),
        asked(classifiers[0], "left", upload=Upload(wanted=lambda: False)),
        asked(classifiers[1], "right"),
    ]
    kinds = [UnreadablePicture, NotFound, Predictions, InvalidRequest, Overloaded, Abandoned, Predictions]
    assert [type(outcome) for outcome in service.batches.predict(requests)] == kinds


def test_a_network_that_fails_for_some_pictures_still_answers_the_others(
    of_features: RecallService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = of_features.train_labels(["left", "right"]).record.id
    original = QueryEncoder.encode

    def failing(self: QueryEncoder, pixels: Any) -> Any:
        if len(pixels) > 3:
            raise RuntimeError("too many")
        return original(self, pixels)

    monkeypatch.setattr(QueryEncoder, "encode", failing)
    good, bad = of_features.batches.predict([asked(made, "left"), asked(made, "right", count=4)])
    assert labels_of(good) == ["left"] * 2
    assert isinstance(bad, RuntimeError)


def test_a_deleted_classifier_is_not_answered_from_the_cache(service: RecallService, classifiers: list[str]) -> None:
    one, two = classifiers
    assert not service.batches.knows(one)
    service.batches.predict([asked(one, "left"), asked(two, "left")])
    assert service.batches.knows(one)
    service.jobs.delete(one)
    service.jobs.finished_file(two).unlink()  # by another server that shares the folder
    assert [type(each) for each in service.batches.predict([asked(one, "left"), asked(two, "left")])] == [NotFound] * 2


def test_slow_pictures_are_decoded_separately_and_predicted_in_parts(
    service: RecallService, classifiers: list[str]
) -> None:
    slow = PredictionRequest(classifiers[0], [Picture("images", "a.webp", flat_webp(800))])
    (outcome,) = service.batches.predict([slow])
    assert isinstance(outcome, MustBeDecodedFirst)
    decoded = service.batches.decode(slow)
    assert isinstance(service.batches.predict([decoded])[0], Predictions)
    many = service.batches.decode(asked(classifiers[0], "left", count=2 * TOGETHER + 1))
    parts = list(many.parts())
    assert [len(part.pictures) for part in parts] == [TOGETHER, TOGETHER, 1]
    joined = service.predict(classifiers[0], many.pictures)
    assert [each.label for each in joined] == ["left"] * (2 * TOGETHER + 1)
    assert np.isclose(joined.probabilities.sum(axis=1), 1).all()
