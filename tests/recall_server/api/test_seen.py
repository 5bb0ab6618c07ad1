"""What memories and classifiers say about themselves, over HTTP: bases, similarity, cards, quality, stages."""

from __future__ import annotations

import base64
import io

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from recall_server.library.library import Library
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import parts, problem, trained
from tests.recall_server.serving_examples import ManualBackend

PNG_URI = "data:image/png;base64,"


def test_the_bases_of_a_memory_are_pictures_at_the_size_that_is_stored(client: TestClient, library: Library) -> None:
    body = client.get("/bundles/places/bases").json()
    assert body["bundle"] == {"name": "places", "sha256": library.get("places").sha256}
    assert body["image"] == {"channels": 1, "height": 16, "width": 16}
    assert len(body["bases"]) == 18
    for uri in body["bases"]:
        image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(PNG_URI), validate=True)))
        assert (image.size, image.getextrema()) == ((16, 16), (0, 255))


def test_bases_are_sent_as_a_contact_sheet_by_format_or_accept(client: TestClient) -> None:
    sheet = client.get("/bundles/places/bases?format=png", headers={"Accept": "application/json"})
    assert sheet.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(sheet.content)).width > 8 * 64
    assert client.get("/bundles/places/bases", headers={"Accept": "image/*"}).content == sheet.content
    problem(client.get("/bundles/places/bases", headers={"Accept": "text/html"}), 406, "not-acceptable")
    problem(client.get("/bundles/places/bases?format=gif"), 422, "invalid-request")


def test_similarity_is_a_symmetric_table_of_the_labels(client: TestClient, library: Library) -> None:
    body = client.get("/bundles/places/similarity").json()
    assert body["labels"] == ["near", "middle", "far"]
    assert body["similarity"] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "these labels share no basis"
    assert body["bundle"]["sha256"] == library.get("places").sha256
    some = client.get("/bundles/places/similarity?labels=far,near").json()
    assert (some["labels"], some["similarity"]) == (["far", "near"], [[1, 0], [0, 1]])
    document = problem(client.get("/bundles/places/similarity?labels=fra"), 422, "unknown-label")
    assert document["suggestions"] == ["far"]


@pytest.mark.parametrize("path", ["/bundles/places/bases", "/bundles/places/similarity"])
def test_unchanged_views_are_304(client: TestClient, path: str) -> None:
    etag = client.get(path).headers["etag"]
    again = client.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)


def test_missing_views_of_a_memory_are_not_linked_and_their_404_says_why(client: TestClient) -> None:
    columns, images, places = client.get("/bundles").json()["bundles"]
    assert columns["links"] == {
        "self": "/bundles/columns",
        "card": "/bundles/columns/card",
        "bases": None,
        "similarity": None,
    }
    assert images["links"]["similarity"] is None
    for name in ("bases", "similarity"):
        assert client.get(places["links"][name]).status_code == 200
        document = problem(client.get(f"/bundles/columns/{name}"), 404, "not-found")
        assert "is of the kind stored_items" in document["detail"]
        problem(client.get(f"/bundles/nowhere/{name}"), 404, "not-found")
    assert "by pictures" in problem(client.get("/bundles/columns-images/similarity"), 404, "not-found")["detail"]


def test_a_bundle_lists_the_size_of_its_data_and_its_details_the_confusions(client: TestClient) -> None:
    places = client.get("/bundles").json()["bundles"][2]
    assert places["dataset_bytes"] == 7_680
    assert "confusions" not in places["accuracy"][0]
    (row,) = client.get("/bundles/places").json()["manifest"]["accuracy"]
    assert row["confusions"] == [[12, 8, 0], [0, 16, 4], [0, 0, 20]]


def test_every_bundle_has_a_card(client: TestClient) -> None:
    for bundle in client.get("/bundles").json()["bundles"]:
        card = client.get(bundle["links"]["card"])
        assert card.headers["content-type"] == "text/markdown; charset=utf-8"
        assert card.text.startswith(f"# Memory {bundle['name']}\n")
        assert bundle["sha256"] in card.text
    problem(client.get("/bundles/nowhere/card"), 404, "not-found")


def test_the_quality_of_labels_comes_from_the_memorys_confusions(client: TestClient) -> None:
    quality = trained(client, json={"labels": ["far", "NEAR"]})["quality"]
    assert quality["source"] == "evaluation"
    assert quality["per_label"] == {"far": 1.0, "near": 1.0}, "near was never taken for far"
    assert quality["counts"] == {"far": 10, "near": 10}
    three = trained(client, json={"labels": ["near", "middle", "far"], "bundle": "places"})["quality"]
    assert three["per_label"] == {"near": 0.6, "middle": 0.8, "far": 1.0}
    assert three["accuracy"] == pytest.approx(0.8)


def test_without_an_evaluation_there_is_no_quality(client: TestClient) -> None:
    assert trained(client, json={"labels": ["left", "right"]})["quality"] is None


def test_the_quality_of_a_classifier_of_pictures_is_known_before_it_is_trained(
    client: TestClient, backend: ManualBackend
) -> None:
    backend.eager = False
    answer = client.post("/classifier", files=parts("left", "right", count=3))
    assert answer.status_code == 202
    quality = answer.json()["quality"]
    assert (quality["source"], quality["accuracy"]) == ("pictures", 1.0), "the columns are far apart"
    assert quality["counts"] == {"left": 3, "right": 3}
    assert "6 pictures sent" in quality["explanation"]
    backend.perform()
    assert client.get(answer.headers["location"]).json()["quality"] == quality


def test_two_pictures_of_a_class_are_too_few_for_an_estimate(client: TestClient) -> None:
    assert trained(client, files=parts("left", "right", count=2))["quality"] is None


def test_a_classifier_lists_seconds_by_stage(client: TestClient, backend: ManualBackend) -> None:
    stages = trained(client, json={"labels": ["left", "right"]})["stages"]
    assert list(stages) == ["recalling", "queued", "training", "transferring"]
    assert min(stages.values()) >= 0
    shown = trained(client, files=parts("left", "right"))["stages"]
    assert list(shown) == ["encoding", "recalling", "queued", "training", "transferring"]
    backend.eager = False
    waiting = client.post("/classifier", json={"labels": ["left", "right"], "seed": 1}).json()
    assert waiting["stages"] is None
    assert list(client.post(waiting["links"]["cancel"]).json()["stages"]) == ["recalling", "queued"]


def test_a_classifier_has_a_card_once_it_is_trained(client: TestClient, backend: ManualBackend) -> None:
    backend.eager = False
    body = client.post("/classifier", json={"labels": ["near", "far"]}).json()
    assert "it is queued" in problem(client.get(body["links"]["card"]), 409, "not-ready")["detail"]
    backend.perform()
    card = client.get(body["links"]["card"])
    assert card.headers["content-type"] == "text/markdown; charset=utf-8"
    assert "Likely right: **100.0 %**" in card.text
    assert f"`{body['bundle']['sha256']}`" in card.text
    assert "The data it was made from: none." in card.text
    problem(client.get("/classifier/nowhere/card"), 404, "not-found")


def test_the_card_of_a_classifier_never_describes_a_replaced_bundle(
    open_app: Open, library: Library, backend: ManualBackend
) -> None:
    renamed = Library(dict(library.bundles))
    client = open_app(bundles=renamed)
    body = trained(client, json={"labels": ["left", "right"]})
    renamed.bundles["columns"] = renamed.bundles["places"]
    card = client.get(body["links"]["card"]).text
    assert "A memory of it is not loaded here any more" in card
    assert body["bundle"]["sha256"] in card
