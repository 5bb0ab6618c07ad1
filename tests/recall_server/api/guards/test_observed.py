"""What surrounds every request: its id, its line in the log, what is counted, and the headers of safety."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from recall_server.errors import StorageFailed
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.service.service import RecallService
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import problem
from tests.recall_server.serving_examples import ManualBackend

SAFE = ("content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy")


def value(client: TestClient, name: str, **labels: str) -> float:
    """The number that /metrics gives; 0 where there is none."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    found = [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]
    return sum(found)


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("secret /home/somebody")


def test_every_answer_is_safe_in_a_browser_and_has_an_id(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecallService, "recall_mixtures", broken)
    answers = [
        client.get("/health/live"),
        client.get("/recall?labels=left&format=png"),
        client.get("/recall?labels=nobody"),
        client.get("/nothing"),
        client.get("/recall?labels=left", headers={"Host": "evil.example"}),
        client.post("/recall", json={"mixtures": [{"left": 1}]}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 422, 404, 403, 500]
    for answer in answers:
        assert set(SAFE) <= set(answer.headers), answer.headers
        assert len(answer.headers["x-request-id"]) == 32
        assert "server" not in answer.headers


def test_a_callers_request_id_is_kept_if_it_is_safe_in_a_log(client: TestClient) -> None:
    def returned(sent: str) -> str:
        return client.get("/health/live", headers={"X-Request-ID": sent}).headers["x-request-id"]

    assert returned("0f-Order_77.b") == "0f-Order_77.b"
    for bad in ("", "a b", "x" * 65, 'a"b', "<script>"):
        assert returned(bad) != bad


def test_a_request_is_logged_as_one_line_without_its_query(
    client: TestClient, caplog: pytest.LogCaptureFixture, backend: ManualBackend
) -> None:
    with caplog.at_level(logging.INFO, "recall_server.api.guards.observed"):
        client.get("/recall?labels=left")
        client.get("/classifier/some-private-id")
        client.get("/health/live")
    lines: list[Any] = [record for record in caplog.records if record.getMessage() == "request"]
    assert [(line.method, line.route, line.status) for line in lines] == [
        ("GET", "/recall", "200"),
        ("GET", "/classifier/{identifier}", "404"),
    ]
    assert lines[0].caller == "address 127.0.0.1"
    assert "left" not in caplog.text


def test_metrics_count_what_happened(client: TestClient, backend: ManualBackend) -> None:
    for _ in range(3):
        client.get("/recall?labels=left&per_label=4")
    client.get("/nothing")
    assert value(client, "recall_http_requests_total", route="/recall", status="200") == 3
    assert value(client, "recall_http_requests_total", route="none", status="404") == 1
    assert value(client, "recall_http_request_seconds_count", route="/recall") == 3
    assert value(client, "recall_recalled_images_total") == 4
    assert value(client, "recall_cache_lookups_total", outcome="hit") == 2
    assert value(client, "recall_cache_bytes") > 100
    assert value(client, "recall_bundles") == 3
    assert value(client, "recall_workers", state="ready", device="cpu", node="") == 1


def test_metrics_include_the_queue(client: TestClient, backend: ManualBackend) -> None:
    backend.eager = False
    for seed in range(3):
        client.post("/classifier", json={"labels": ["left", "right"], "seed": seed})
    backend.perform()
    backend.begin()
    assert value(client, "recall_jobs_queued") == 1
    assert value(client, "recall_jobs_running") == 1
    assert value(client, "recall_jobs_oldest_queued_seconds") > 0
    assert value(client, "recall_jobs_finished_total", status="succeeded") == 1
    assert value(client, "recall_job_seconds_count", stage="training") == 1


def test_made_up_methods_and_paths_do_not_become_metric_labels(client: TestClient) -> None:
    for number in range(20):
        client.request(f"MADEUP{number}", f"/made/up/{number}")
    text = client.get("/metrics").text
    assert "MADEUP" not in text and "/made" not in text
    assert value(client, "recall_http_requests_total", method="other", route="none") == 20


def test_an_unexpected_error_is_logged_with_its_id_and_answered_without_details(
    open_app: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = open_app()
    monkeypatch.setattr(RecallService, "recall_labels", broken)
    answer = client.get("/recall?labels=left", headers={"X-Request-ID": "order-77"})
    problem(answer, 500, "internal-error")
    assert answer.headers["x-request-id"] == "order-77"
    assert "secret" not in answer.text
    assert "secret /home/somebody" in caplog.text


def test_a_failing_job_table_breaks_nothing_else(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise StorageFailed("the job table cannot be used: disk I/O error")

    assert value(client, "recall_job_table_usable") == 1
    monkeypatch.setattr(TrainingJobs, "statistics", fail)
    assert client.get("/metrics").status_code == 200
    assert value(client, "recall_job_table_usable") == 0
    assert value(client, "recall_bundles") == 3
