"""POST /classifier/{id}/predict: its answer in pieces, and its limits."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from recall_server.service import predictions
from tests.recall_server.api.requests import parts, problem


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
