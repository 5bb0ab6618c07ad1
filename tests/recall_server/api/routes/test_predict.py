"""POST /classifier/{id}/predict: its answer in pieces, and its limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from recall_server.library import Library
from recall_server.service import predictions
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import parts, problem
from tests.recall_server.feature_examples import knowing_artifacts


def test_the_answer_is_the_json_of_its_schema_for_any_number_of_pictures(client: TestClient) -> None:
    made = client.post("/classifier", json={"labels": ["left", "right"]}, headers={"Prefer": "wait=30"}).json()
    path = made["links"]["predict"]
    for count in (1, 16, 40):
        answer = client.post(path, files=parts("left", name="images", count=count))
        assert answer.headers["content-type"] == "application/json"
        said = json.loads(answer.content)["predictions"]
        assert [each["label"] for each in said] == ["left"] * count
        assert list(said[0]["probabilities"]) == ["left", "right"]
    shown = parts("left", name="images", count=1)
    assert list(client.post(f"{path}?top=1", files=shown).json()["predictions"][0]["probabilities"]) == ["left"]
    assert problem(client.post(f"{path}?top=0", files=shown), 422, "invalid-request")["parameter"] == "top"


def test_a_large_answer_is_refused_over_http(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "LARGEST_ANSWER", 100)
    made = client.post("/classifier", json={"labels": ["left", "right"]}, headers={"Prefer": "wait=30"}).json()
    shown = parts("left", name="images", count=3)
    document = problem(client.post(made["links"]["predict"], files=shown), 422, "invalid-request")
    assert document["parameter"] == "top"


@pytest.fixture
def knowing(open_app: Open, tmp_path: Path) -> TestClient:
    """A server with a memory of features that says how its classes vary."""
    folder = knowing_artifacts(tmp_path / "artifacts", "left", "middle", "right")
    return open_app(bundles=Library.load(folder, device="cpu"))


def test_a_classifier_of_features_says_how_familiar_each_picture_is(knowing: TestClient) -> None:
    shown = parts("left", name="west") + parts("right", name="east")
    made = knowing.post("/classifier", files=shown, headers={"Prefer": "wait=10"})
    assert made.status_code == 201
    body = made.json()
    score = body["ways"][body["addressing"]]
    assert 0 <= score["low"] <= score["accuracy"] <= score["high"] <= 1
    predict = body["links"]["predict"]
    (first, *_) = knowing.post(predict, files=parts("left", name="images")).json()["predictions"]
    assert (first["label"], first["none_of_these"]) == ("west", False)
    assert 0.2 < first["familiarity"] <= 1
    (first, *_) = knowing.post(f"{predict}?none_below=1", files=parts("left", name="images")).json()["predictions"]
    assert first["none_of_these"] is True
    assert knowing.post(f"{predict}?none_below=1.5", files=parts("left", name="images")).status_code == 422


def test_pictures_stand_among_labels_of_the_query(knowing: TestClient) -> None:
    made = knowing.post(
        "/classifier?labels=left,middle", files=parts("right", name="east"), headers={"Prefer": "wait=10"}
    )
    assert made.json()["labels"] == ["left", "middle", "east"]
    refused = knowing.post("/classifier?labels=left", json={"labels": ["middle", "right"]})
    assert refused.status_code == 422
    assert "labels is an option for pictures" in refused.json()["detail"]
