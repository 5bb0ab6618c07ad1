"""GET and POST /recall over HTTP."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import safetensors.torch
from fastapi.testclient import TestClient
from PIL import Image

from recall_server.errors import Overloaded
from recall_server.library.library import Library
from recall_server.service.service import RecallService
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import parts, problem
from tests.recall_server.serving_examples import COLUMNS, ROWS, picture

SAFETENSORS = "application/vnd.safetensors"


def test_labels_recall_pictures_as_json(client: TestClient) -> None:
    answer = client.get("/recall", params={"labels": "left,Right", "per_label": 2})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept"
    body = answer.json()
    assert body["seed"] is None
    assert [bundle["name"] for bundle in body["bundles"]] == ["columns"]
    left, right = body["recalled"]
    assert {key: right[key] for key in ("name", "bundle", "target", "rows", "image")} == {
        "name": "right",
        "bundle": "columns",
        "target": {"right": 1.0},
        "rows": [0, 1],
        "image": {"channels": 1, "height": 8, "width": 8},
    }
    prefix = "data:image/png;base64,"
    for seed, uri in enumerate(left["images"]):
        assert uri.startswith(prefix)
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(prefix)))))
        np.testing.assert_allclose(shown, picture("left", seed), atol=1)


def test_labels_may_be_repeated_instead_of_joined(client: TestClient) -> None:
    joined = client.get("/recall?labels=left,far&per_label=1")
    repeated = client.get("/recall?labels=left&labels=far&per_label=1")
    assert joined.content == repeated.content
    assert [bundle["name"] for bundle in joined.json()["bundles"]] == ["columns", "places"]


def test_all_rows_on_request(client: TestClient) -> None:
    assert len(client.get("/recall?labels=left&per_label=all").json()["recalled"][0]["images"]) == ROWS


@pytest.mark.parametrize(
    ("accept", "form", "media"),
    [
        (None, None, "application/json"),
        ("*/*", None, "application/json"),
        ("text/html, application/json;q=0.9", None, "application/json"),
        ("image/png", None, "image/png"),
        ("image/*", None, "image/png"),
        ("application/*;q=0.1, image/png;q=0.2", None, "image/png"),
        ("application/json;q=0, */*", None, "image/png"),
        (SAFETENSORS, None, SAFETENSORS),
        ("application/octet-stream", None, SAFETENSORS),
        ("text/html", "png", "image/png"),
        ("image/png", "json", "application/json"),
        ("image/png;q=broken", None, "image/png"),
    ],
)
def test_the_format_is_negotiated(client: TestClient, accept: str | None, form: str | None, media: str) -> None:
    parameters = {"labels": "left"} | ({"format": form} if form else {})
    answer = client.get("/recall", params=parameters, headers={"Accept": accept} if accept else {})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == media


def test_an_unacceptable_format_is_406_with_the_available_ones(client: TestClient) -> None:
    document = problem(client.get("/recall?labels=left", headers={"Accept": "text/html"}), 406, "not-acceptable")
    assert "image/png" in document["detail"]


@pytest.mark.parametrize("form", ["json", "png", "safetensors"])
def test_the_same_request_gives_the_same_bytes(client: TestClient, form: str) -> None:
    def content(seed: int) -> bytes:
        answer = client.get("/recall", params={"labels": "left,right", "per_label": 3, "seed": seed, "format": form})
        assert answer.status_code == 200
        return answer.content

    assert content(4) == content(4)
    assert len({content(seed) for seed in range(8)}) > 1


@pytest.mark.parametrize("form", ["json", "png", "safetensors"])
def test_an_unchanged_answer_is_304(client: TestClient, form: str) -> None:
    path = f"/recall?labels=left,right&per_label=2&format={form}"
    first, known = client.get(path), client.get(path)
    assert (first.content, first.headers["etag"]) == (known.content, known.headers["etag"])
    assert {**first.headers, "x-request-id": ""} == {**known.headers, "x-request-id": ""}
    for named in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        answer = client.get(path, headers={"If-None-Match": named})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == first.headers["etag"]
        assert answer.headers["vary"] == "Accept"
    assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content


def test_an_etag_changes_with_the_bytes_and_with_nothing_else(open_app: Open) -> None:
    def etag(client: TestClient, query: str) -> str:
        return client.get(f"/recall?labels={query}").headers["etag"]

    client, without_cache = open_app(), open_app(cache_bytes=0)
    queries = ["left", "right", "left&seed=1", "left&format=png", "left&per_label=2"]
    etags = [etag(client, query) for query in queries]
    assert len(set(etags)) == len(queries)
    assert [etag(without_cache, query) for query in queries] == etags


def test_a_changed_library_invalidates_cached_answers(
    open_app: Open, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_app()
    before = client.get("/recall?labels=far")
    assert before.status_code == 200
    fewer = Library({name: loaded for name, loaded in library.bundles.items() if name != "places"})
    monkeypatch.setattr(RecallService, "library", fewer)
    problem(client.get("/recall?labels=far"), 422, "unknown-label")
    assert client.get("/recall?labels=middle").status_code == 200  # which two bundles knew


def test_an_error_is_not_cached(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise Overloaded("later", retry_after=3)

    with monkeypatch.context() as patched:
        patched.setattr(RecallService, "recall_labels", full)
        answer = client.get("/recall?labels=left")
        problem(answer, 429, "overloaded")
        assert answer.headers["retry-after"] == "3"
    assert client.get("/recall?labels=left").status_code == 200


def test_safetensors_hold_pixels_that_are_not_clipped(client: TestClient) -> None:
    answer = client.post("/recall?format=safetensors&per_label=1", json={"mixtures": [{"left": 4}]})
    tensors = safetensors.torch.load(answer.content)
    assert tensors["images"].max() > 1.5
    assert tensors["targets"].tolist() == [[4.0]]


def test_mixtures_vectors_and_pictures_are_queries_too(client: TestClient) -> None:
    mixtures = client.post("/recall?bundle=columns", json={"mixtures": [{"left": 0.5, "middle": 0.5}]}).json()
    assert mixtures["recalled"][0]["name"] == "0.5 left + 0.5 middle"
    vectors = client.post("/recall?bundle=columns-images", json={"vectors": [[1, 0, 0]]}).json()
    assert vectors["recalled"][0]["name"] == "query 1"
    shown = client.post("/recall?per_label=1", files=parts("left", "right")).json()
    assert [entry["name"] for entry in shown["recalled"]] == ["left", "right"]
    assert [bundle["name"] for bundle in shown["bundles"]] == ["columns-images"]


@pytest.mark.parametrize(
    ("query", "slug", "parameter", "sentence"),
    [
        ("", "invalid-request", "labels", "Field required"),
        ("labels=", "invalid-request", "labels", "a label is empty"),
        ("labels=left,,right", "invalid-request", "labels", "a label is empty"),
        ("labels=left,left", "invalid-request", "labels", "named twice"),
        ("labels=left&per_label=0", "invalid-request", None, "greater than or equal to 1"),
        ("labels=left&per_label=some", "invalid-request", None, "valid integer"),
        ("labels=left&per_label=99", "invalid-request", "per_label", f"up to {ROWS} images"),
        ("labels=left&seed=-1", "invalid-request", "seed", "greater than or equal to 0"),
        ("labels=left&seed=99999999999999999999", "invalid-request", "seed", "less than or equal"),
        ("labels=left&format=gif", "invalid-request", "format", "'json', 'png' or 'safetensors'"),
        ("labels=left&per_lable=3", "invalid-request", "per_lable", "not permitted"),
        ("labels=left&bundle=nowhere", "invalid-request", "bundle", "no bundle is named 'nowhere'"),
        ("labels=columns-images:left", "unsupported-query", "bundle", "addressed by pictures"),
        ("labels=left,far&format=safetensors", "invalid-request", "labels", "different sizes"),
        ("labels=%00", "unknown-label", "labels", "no loaded bundle knows"),
    ],
)
def test_bad_parameters_say_what_would_be_right(
    client: TestClient, query: str, slug: str, parameter: str | None, sentence: str
) -> None:
    document = problem(client.get(f"/recall?{query}"), 422, slug)
    assert sentence in document["detail"]
    if parameter is not None:
        assert document["parameter"] == parameter


def test_an_unknown_label_comes_with_suggestions(client: TestClient) -> None:
    document = problem(client.get("/recall?labels=rigth,left"), 422, "unknown-label")
    assert document["suggestions"] == ["right"]
    assert document["detail"] == "no loaded bundle knows the label 'rigth'; did you mean 'right'?"


def test_an_ambiguous_label_comes_with_the_candidates(client: TestClient) -> None:
    (entry,) = client.get("/recall?labels=middle").json()["recalled"]
    assert (entry["bundle"], entry["other_bundles"]) == ("places", ["columns"])
    document = problem(client.get("/recall?labels=middle&strict=true"), 422, "ambiguous-label")
    assert document["candidates"] == ["places:middle", "columns:middle"]
    assert client.get("/recall?labels=places:middle").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "not valid JSON"),
        (b"{", 400, "not valid JSON"),
        (b'{"mixtures": [{"left": NaN}]}', 400, "NaN"),
        (b'{"mixtures": [{"left": 1, "left": 2}]}', 400, "appears twice"),
        (b'\xff{"mixtures": []}', 400, "not valid JSON"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b"[]", 422, "valid dictionary"),
        (b"{}", 422, "either 'mixtures' or 'vectors'"),
        (b'{"mixtures": [], "vectors": []}', 422, "either 'mixtures' or 'vectors'"),
        (b'{"mixtures": []}', 422, "one mixture or more"),
        (b'{"mixtures": [{}]}', 422, "a mixture needs one label"),
        (b'{"mixtures": [{"left": "much"}]}', 422, "valid number"),
        (b'{"mixtures": [{"left": 1e30}]}', 422, "weights must be finite"),
        (b'{"vectors": [[1, 2]]}', 422, "say which bundle"),
        (b'{"images": []}', 422, "not permitted"),
    ],
)
def test_bad_json_is_refused(client: TestClient, body: bytes, status: int, sentence: str) -> None:
    answer = client.post("/recall", content=body, headers={"Content-Type": "application/json"})
    assert sentence in problem(answer, status, "invalid-request")["detail"]


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "image/png", ""])
def test_other_media_types_are_refused_with_the_accepted_ones(client: TestClient, media: str) -> None:
    answer = client.post("/recall", content=b"labels=left", headers={"Content-Type": media})
    assert "application/json or multipart/form-data" in problem(answer, 415, "unsupported-media-type")["detail"]


def test_too_much_in_one_request_is_refused(open_app: Open) -> None:
    client = open_app(max_recalled_numbers=64 * 3)
    assert client.get("/recall?labels=left,right&per_label=1").status_code == 200
    document = problem(client.get("/recall?labels=left,right&per_label=2"), 422, "invalid-request")
    assert "ask for fewer labels or a smaller per_label" in document["detail"]


def test_pictures_need_a_bundle_that_takes_them(client: TestClient) -> None:
    document = problem(client.post("/recall?bundle=columns", files=parts("left")), 422, "unsupported-query")
    assert "'columns' is addressed by labels" in document["detail"]


def test_a_sheet_shows_every_query(client: TestClient) -> None:
    sheet = client.get("/recall", params={"labels": ",".join(("left", "columns:middle", "far")), "format": "png"})
    image = Image.open(io.BytesIO(sheet.content))
    assert image.width > ROWS * 64
    assert image.height > len(COLUMNS) * 64


def test_answers_match_the_openapi_document(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    answers = schema["paths"]["/recall"]["get"]["responses"]
    assert set(answers["200"]["content"]) == {"application/json", "image/png", SAFETENSORS}
    assert set(answers) >= {"200", "406", "422"}
    assert set(answers["422"]["content"]) == {"application/problem+json"}
    json.dumps(schema)


def test_json_that_is_too_large_is_refused(client: TestClient) -> None:
    body = b'{"vectors": [[0' + b",0" * (2 * 2**20) + b"]]}"
    answer = client.post("/recall", content=body, headers={"Content-Type": "application/json"})
    assert "GET /info says how large it may be" in problem(answer, 413, "body-too-large")["detail"]
    assert client.get("/info").json()["limits"]["json_bytes"] < len(body)


@pytest.mark.parametrize("body", [{"vectors": [[0.0]] * 10_001}, {"mixtures": [{"left": 1}] * 10_001}])
def test_more_queries_than_one_answer_holds_are_refused(client: TestClient, body: dict[str, object]) -> None:
    answer = client.post("/recall", json=body)
    assert "at most 10000" in problem(answer, 422, "invalid-request")["detail"]


def test_a_million_faults_are_reported_once(client: TestClient) -> None:
    answer = client.post("/recall", json={"vectors": [["a"] * 100_000]})
    assert answer.status_code == 422
    assert len(answer.content) < 10_000


def test_a_table_of_targets_that_no_answer_holds_is_refused(client: TestClient) -> None:
    vectors = [[1.0] * len(COLUMNS)] * 6_000  # each of them a label of its own
    answer = client.post("/recall?per_label=1&format=safetensors&bundle=columns", json={"vectors": vectors})
    assert "table of targets" in problem(answer, 422, "invalid-request")["detail"]


def test_a_sheet_that_is_too_large_is_refused(client: TestClient) -> None:
    answer = client.post("/recall?per_label=1&format=png", json={"mixtures": [{"left": 1}] * 9_000})
    assert "too large to look at" in problem(answer, 422, "invalid-request")["detail"]
