"""Bundles, health, information, and what every answer has in common."""

from __future__ import annotations

import inspect

import pytest
from fastapi.testclient import TestClient

from recall_server import __version__, errors
from recall_server.api.http.problems import PROBLEMS, STATUSES
from recall_server.library.library import Library, Rejection
from recall_server.service.service import RecallService
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import parts, problem
from tests.recall_server.serving_examples import ManualBackend


def test_bundles_are_listed_with_a_summary(client: TestClient, library: Library) -> None:
    bundles = client.get("/bundles").json()["bundles"]
    assert [bundle["name"] for bundle in bundles] == ["columns", "columns-images", "places"]
    columns, images, _ = bundles
    assert columns["labels"] == ["left", "middle", "right"]
    assert columns["sha256"] == library.get("columns").sha256
    assert columns["file_bytes"] == library.get("columns").bundle.file_bytes
    assert columns["memory"] == {"kind": "stored_items", "rows": 6, "query_size": 3}
    assert (columns["queries"], columns["query_encoder"]) == ("labels", None)
    assert images["queries"] == "images"
    assert images["query_encoder"]["file"] == "columns.onnx"
    assert images["query_encoder"]["provider"] == "CPUExecutionProvider"


def test_one_bundle_comes_with_its_manifest(client: TestClient) -> None:
    body = client.get("/bundles/columns").json()
    assert body["manifest"]["retraining"]["steps"] == 30
    assert body["manifest"]["provenance"]["method"] == "none"
    assert {key: body[key] for key in body if key != "manifest"} == client.get("/bundles").json()["bundles"][0]
    assert "loaded are 'columns'" in problem(client.get("/bundles/nowhere"), 404, "not-found")["detail"]


def test_live_is_live(client: TestClient) -> None:
    for path in ("/health/live", "/v2/health/live"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "live"})


@pytest.mark.parametrize("worker", ["ready", "restarting"])
def test_ready_is_ready_even_while_a_process_is_replaced(
    client: TestClient, backend: ManualBackend, worker: str
) -> None:
    backend.state = worker  # type: ignore[assignment]
    answer = client.get("/health/ready")
    assert client.get("/v2/health/ready").json() == answer.json()
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "reasons": [],
        "bundles": ["columns", "columns-images", "places"],
        "rejected": [],
        "encoders": {"columns-images": "CPUExecutionProvider"},
        "worker": worker,
        "workers": 1,
        "queued": 0,
        "queue_limit": 16,
    }


def test_not_ready_says_why(open_app: Open, backend: ManualBackend) -> None:
    backend.state = "warming"
    warming = open_app().get("/health/ready")
    assert (warming.status_code, warming.headers["retry-after"]) == (503, "1")
    assert (warming.json()["status"], warming.json()["worker"]) == ("starting", "warming")
    backend.state = "failed"
    rejected = (Rejection("bad.safetensors", "bad.safetensors: too short"),)
    failed = open_app(bundles=Library({}, rejected=rejected)).get("/health/ready")
    assert failed.status_code == 503
    assert failed.json() == {
        "status": "not ready",
        "reasons": ["no bundle is loaded", "the training process cannot be started"],
        "bundles": [],
        "rejected": [{"file": "bad.safetensors", "reason": "bad.safetensors: too short"}],
        "encoders": {},
        "worker": "failed",
        "workers": 1,
        "queued": 0,
        "queue_limit": 16,
    }


def test_a_rejected_file_does_not_make_the_rest_unready(open_app: Open, library: Library) -> None:
    rejected = (Rejection("bad.safetensors", "bad.safetensors: too short"),)
    answer = open_app(bundles=Library(library.bundles, rejected=rejected)).get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["rejected"][0]["file"] == "bad.safetensors"


def test_info_lists_versions_devices_and_limits(open_app: Open) -> None:
    body = open_app(max_pictures=17).get("/info").json()
    assert (body["name"], body["version"], body["bundles"]) == ("recall-server", __version__, 3)
    assert body["device"] == {"requested": "auto", "training": "cpu", "query_encoder": "CPUExecutionProvider"}
    assert body["limits"]["pictures"] == 17


def test_the_index_names_routes_that_exist(client: TestClient) -> None:
    links = client.get("/").json()["links"]
    assert set(links) >= {"recall", "classifier", "bundles", "ready", "info"}
    for link in links.values():
        assert client.get(link).status_code in (200, 422), link


def test_every_error_of_this_project_has_its_problem() -> None:
    known = {
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, errors.RecallError) and value.__module__ == errors.__name__
    }
    assert set(PROBLEMS) == known
    titles = {problem_type.slug: problem_type.title for problem_type in (*PROBLEMS.values(), *STATUSES.values())}
    for problem_type in (*PROBLEMS.values(), *STATUSES.values()):
        assert titles[problem_type.slug] == problem_type.title
        assert 400 <= problem_type.status < 600


def test_an_address_that_does_not_exist_says_where_to_look(client: TestClient) -> None:
    assert "GET / lists" in problem(client.get("/nothing"), 404, "not-found")["detail"]


def test_a_wrong_method_says_which_is_right(client: TestClient) -> None:
    answer = client.put("/recall")
    assert "PUT is not allowed here" in problem(answer, 405, "method-not-allowed")["detail"]
    assert answer.headers["allow"]


def test_an_unexpected_error_reveals_no_internals(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret /home/somebody")

    monkeypatch.setattr(RecallService, "recall_labels", broken)
    answer = client.get("/recall?labels=left")
    assert (
        problem(answer, 500, "internal-error")["detail"]
        == "the server failed in a way it should not; its log says more"
    )
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_an_internal_error_of_the_project_reveals_no_internals(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise errors.InvalidBundle("the file /home/somebody/x is damaged")

    monkeypatch.setattr(RecallService, "recall_labels", broken)
    answer = client.get("/recall?labels=left")
    problem(answer, 500, "internal-error")
    assert "somebody" not in answer.text
    assert "somebody" in caplog.text


def test_a_body_that_is_too_large_is_refused_with_or_without_a_length(open_app: Open) -> None:
    client = open_app(max_body_bytes=2000)
    assert client.post("/recall", json={"mixtures": [{"left": 1}]}).status_code == 200
    declared = client.post("/recall", files=parts("left", count=20))
    assert "more than the 2000 that are accepted" in problem(declared, 413, "body-too-large")["detail"]
    for media in ("application/json", "multipart/form-data; boundary=x"):
        chunks = iter([b"--x\r\n", b" " * 1500, b" " * 1500])
        streamed = client.post("/recall", content=chunks, headers={"Content-Type": media})
        assert "GET /info" in problem(streamed, 413, "body-too-large")["detail"]


@pytest.mark.parametrize("length", ["-1", "abc", "1" * 400])
def test_a_nonsensical_content_length_does_no_harm(client: TestClient, length: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": length}
    answer = client.post("/recall", content=b"{}", headers=headers)
    assert answer.status_code in (413, 422)


def test_stopping_the_application_stops_the_jobs(open_app: Open, backend: ManualBackend) -> None:
    client = open_app()
    assert not backend.stopped
    client.__exit__(None, None, None)
    assert backend.stopped


def test_the_openapi_document_is_complete(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/", "/recall", "/classifier", "/classifier/{identifier}", "/classifier/{identifier}/cancel",
        "/classifier/{identifier}/events", "/classifier/{identifier}/predict", "/classifier/{identifier}/download",
        "/classifier/{identifier}/card", "/classifier/{identifier}/explain", "/bundles", "/bundles/{name}",
        "/bundles/{name}/bases", "/bundles/{name}/similarity", "/bundles/{name}/card", "/health/live", "/health/ready",
        "/v2/health/live", "/v2/health/ready", "/info", "/metrics",
    }  # fmt: skip
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary") or operation.get("description"), (path, method)
            assert "default" not in operation["responses"]  # which would declare anything
            assert {"401", "403", "429"} <= set(operation["responses"])
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and (status != "503" or "/health/ready" not in path):
                    assert set(answer["content"]) == {"application/problem+json"}, (path, method, status)
