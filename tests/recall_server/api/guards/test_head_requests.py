"""HEAD is answered like GET on every route, and without a body."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from tests.recall_server.api.live import exchange, listening
from tests.recall_server.api.requests import problem
from tests.recall_server.serving_examples import ManualBackend

LABELS = {"labels": ["left", "right"]}
FILLED = {"{name:path}": "main.js", "{name}": "columns"}
QUERIES = {"/recall": "?labels=left"}
CHANGES = frozenset({"x-request-id", "date"})  # from answer to answer


def paths(client: TestClient, identifier: str) -> list[str]:
    """Return a path of every route that answers GET."""
    assert isinstance(client.app, FastAPI)
    found = []
    for context in iter_route_contexts(client.app.routes):
        route = context.original_route
        if "GET" in route.methods:
            path = route.path.replace("{identifier}", identifier)
            for pattern, value in FILLED.items():
                path = path.replace(pattern, value)
            found.append(path + QUERIES.get(path, ""))
    return found


def test_head_has_the_status_and_the_headers_of_get(client: TestClient) -> None:
    made = client.post("/classifier", json=LABELS, headers={"Prefer": "wait=30"}).json()["id"]
    answered = set()
    for path in paths(client, made):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        if got.is_success:
            answered.add(path)
        if path != "/metrics":
            same = {name: value for name, value in got.headers.items() if name not in CHANGES}
            assert {name: value for name, value in head.headers.items() if name not in CHANGES} == same, path
    assert len(answered) > 15


@pytest.mark.parametrize(("path", "status"), [("/classifier/x/cancel", 405), ("/nowhere", 404), ("/bundles/none", 404)])
def test_errors_are_those_of_get(client: TestClient, path: str, status: int) -> None:
    problem(client.get(path), status, {404: "not-found", 405: "method-not-allowed"}[status])
    assert client.head(path).status_code == status


@pytest.mark.process
def test_the_head_of_a_stream_ends_and_the_connection_goes_on(client: TestClient, backend: ManualBackend) -> None:
    backend.eager = False
    path = client.post("/classifier", json=LABELS).json()["links"]["events"]
    head = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    live = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with listening(client.app) as address:
        answers = exchange(address, (head + live).encode())
    assert answers.count(b"HTTP/1.1 200") == 2
    assert answers.endswith(b'{"status":"live"}') or b'"live"' in answers.partition(b"\r\n\r\n")[2]


@pytest.mark.process
def test_a_request_without_a_host_is_from_no_browser(client: TestClient) -> None:
    with listening(client.app) as address:
        for method in ("GET", "HEAD"):
            assert exchange(address, f"{method} /recall?labels=left HTTP/1.0\r\n\r\n".encode())[9:12] == b"200"
        named = b"POST /classifier HTTP/1.0\r\nOrigin: http://evil.example\r\nContent-Length: 2\r\n\r\n{}"
        assert exchange(address, named)[9:12] == b"403"
