"""POST /classifier/{id}/explain: its answer, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from recall_server.api.routes.explain import MOST_ITEMS
from recall_server.library import Library
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import parts, problem, trained
from tests.recall_server.feature_examples import knowing_artifacts
from tests.recall_server.serving_examples import COLUMNS, ManualBackend

ONE = parts("left", name="images", count=1)


@pytest.fixture
def features(open_app: Open, tmp_path: Path) -> TestClient:
    """A server with a memory of features."""
    return open_app(bundles=Library.load(knowing_artifacts(tmp_path / "artifacts", *COLUMNS), device="cpu"))


def test_an_explanation_lists_what_spoke_for_and_against(features: TestClient) -> None:
    made = trained(features, json={"labels": list(COLUMNS)})
    answer = features.post(made["links"]["explain"], files=ONE)
    assert answer.status_code == 200
    said = answer.json()
    assert (said["label"], said["predicted"], said["items"]) == ("left", "left", 3)
    assert list(said["supporting"][0]) == ["label", "bundle", "row", "influence", "probability_without"]
    assert said["supporting"][0]["influence"] > 0 > said["opposing"][0]["influence"]
    other = features.post(f"{made['links']['explain']}?label=right&top=1", files=ONE).json()
    assert (other["label"], other["predicted"]) == ("right", "left")
    assert len(other["supporting"]) <= 1 and len(other["opposing"]) == 1


def test_other_requests_are_refused(features: TestClient) -> None:
    explain = trained(features, json={"labels": list(COLUMNS)})["links"]["explain"]
    for query, name in (("label=lift", "label"), ("top=0", "top"), (f"top={MOST_ITEMS + 1}", "top")):
        document = problem(features.post(f"{explain}?{query}", files=ONE), 422, "invalid-request")
        assert document["parameter"] == name
    two = parts("left", name="images", count=2)
    assert problem(features.post(explain, files=two), 422, "invalid-request")["parameter"] == "images"
    assert problem(features.post(explain, files=parts("left", count=1)), 422, "invalid-request")["parameter"] == "left"
    damaged = [("images", ("a.png", b"\x89PNG nothing", "image/png"))]
    problem(features.post(explain, files=damaged), 422, "unreadable-picture")
    problem(features.post(explain, json={}), 415, "unsupported-media-type")
    problem(features.post("/classifier/none/explain", files=ONE), 404, "not-found")


def test_pictures_have_the_limits_of_predictions(open_app: Open, tmp_path: Path) -> None:
    library = Library.load(knowing_artifacts(tmp_path / "artifacts", *COLUMNS), device="cpu")
    client = open_app(bundles=library, max_picture_pixels=10)
    explain = trained(client, json={"labels": list(COLUMNS)})["links"]["explain"]
    problem(client.post(explain, files=ONE), 413, "picture-too-large")


def test_a_network_of_images_and_a_training_are_refused(client: TestClient, backend: ManualBackend) -> None:
    made = trained(client, json={"labels": ["left", "right"]})
    document = problem(client.post(made["links"]["explain"], files=ONE), 422, "unsupported-query")
    assert "train one from labels of a memory in the features of an encoder" in document["detail"]
    backend.eager = False
    waiting = client.post("/classifier", json={"labels": ["left", "middle"]}).json()
    problem(client.post(waiting["links"]["explain"], files=ONE), 409, "not-ready")


def test_an_explanation_is_charged_as_a_picture(open_app: Open, tmp_path: Path) -> None:
    library = Library.load(knowing_artifacts(tmp_path / "artifacts", *COLUMNS), device="cpu")
    client = open_app(bundles=library, work_rate="545/hour")  # the training costs 540
    explain = trained(client, json={"labels": list(COLUMNS)})["links"]["explain"]
    statuses = [client.post(explain, files=ONE).status_code for _ in range(8)]
    assert sorted(set(statuses)) == [200, 429]
