"""Who is let in, how often, and when nobody is: all decided before a body is read."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import parts, problem
from tests.recall_server.serving_examples import ManualBackend

READ, TRAIN, ADMIN = "read-0123456789abcdef", "train-0123456789abcdef", "admin-0123456789abcdef"
KEYS = f"reader:read:{READ},trainer:train:{TRAIN},boss:admin:{ADMIN}"
LABELS = {"labels": ["left", "right"]}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class Unread:
    """A body that fails the test when somebody reads it."""

    def __iter__(self) -> Iterator[bytes]:
        yield from ()
        raise AssertionError("the body was read")


def test_the_test_client_notices_when_a_body_is_read(client: TestClient) -> None:
    answer = client.post("/recall", content=Unread(), headers={"Content-Type": "application/json"})
    problem(answer, 500, "internal-error")


@pytest.mark.parametrize(
    "headers", [{}, bearer("wrong-0123456789abcdef"), {"X-API-Key": ""}, {"Authorization": "Basic eA=="}]
)
def test_a_caller_without_a_key_gets_401_with_the_scheme(open_app: Open, headers: dict[str, str]) -> None:
    client = open_app(api_keys=KEYS)
    for method, path in (
        ("GET", "/recall?labels=left"),
        ("POST", "/classifier"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
    ):
        answer = client.request(method, path, headers=headers)
        problem(answer, 401, "unauthorised")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_health_and_the_index_are_open_to_everybody(open_app: Open) -> None:
    client = open_app(api_keys=KEYS)
    for path in ("/", "/openapi.json", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
        assert client.get(path).status_code == 200, path


def test_each_scope_allows_what_it_documents(open_app: Open) -> None:
    client = open_app(api_keys=KEYS)
    client.headers["X-API-Key"] = TRAIN
    made = client.post("/classifier", json=LABELS, headers={"Prefer": "wait=30"})
    assert made.status_code == 201
    links = made.json()["links"]
    shown = {"files": parts("left", name="images")}
    allowed = {
        READ: [
            client.get("/recall?labels=left", headers={"X-API-Key": READ}),
            client.post("/recall", json={"mixtures": [{"left": 1}]}, headers={"X-API-Key": READ}),
            client.post(links["predict"], headers={"X-API-Key": READ}, **shown),
            client.get(links["events"], headers={"X-API-Key": READ}),
        ],
        TRAIN: [client.post(links["cancel"])],
        ADMIN: [client.post("/classifier", json=LABELS, headers={"X-API-Key": ADMIN})],
    }
    assert [answer.status_code for answer in allowed[READ]] == [200] * 4
    assert [answer.status_code for answer in allowed[TRAIN]] == [200]
    assert [answer.status_code for answer in allowed[ADMIN]] == [201]
    for key, method, path, needed in (
        (READ, "POST", "/classifier", "train"),
        (READ, "POST", links["cancel"], "train"),
        (READ, "DELETE", links["self"], "admin"),
        (TRAIN, "DELETE", links["self"], "admin"),
    ):
        document = problem(client.request(method, path, headers={"X-API-Key": key}), 403, "forbidden")
        assert f"but this takes {needed}" in document["detail"]
    assert client.delete(links["self"], headers={"X-API-Key": ADMIN}).status_code == 204


def test_no_answer_and_no_log_repeats_a_key(open_app: Open, caplog: pytest.LogCaptureFixture) -> None:
    client = open_app(api_keys=KEYS)
    with caplog.at_level("DEBUG"):
        for key in (READ, "wrong-0123456789abcdef"):
            answer = client.post("/classifier", json=LABELS, headers=bearer(key))
            assert key not in answer.text + str(answer.headers)
            assert key not in caplog.text
    assert client.get("/metrics", headers=bearer(READ)).status_code == 200


def test_the_upload_of_a_caller_without_a_key_is_not_read(open_app: Open) -> None:
    client = open_app(api_keys=KEYS)
    answer = client.post("/classifier", content=Unread(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    problem(answer, 401, "unauthorised")
    assert answer.headers["connection"] == "close"


def test_a_full_queue_is_429_with_retry_after_before_the_body_is_read(open_app: Open, backend: ManualBackend) -> None:
    client = open_app(queue_limit=2)
    backend.eager = False
    for seed in range(2):
        assert client.post("/classifier", json=LABELS | {"seed": seed}).status_code == 202
    answer = client.post("/classifier", content=Unread(), headers={"Content-Type": "application/json"})
    assert "2 trainings are queued" in problem(answer, 429, "overloaded")["detail"]
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert client.get("/recall?labels=left").status_code == 200
    backend.begin()
    eventually = time.monotonic() + 10
    while client.post("/classifier", json=LABELS | {"seed": 2}).status_code != 202:
        assert time.monotonic() < eventually
        time.sleep(0.05)
    assert 'recall_refusals_total{reason="too much"}' in client.get("/metrics").text


def test_without_a_worker_or_while_stopping_it_is_503_with_retry_after(open_app: Open, backend: ManualBackend) -> None:
    client = open_app()
    backend.state = "failed"
    answer = client.post("/classifier", content=Unread(), headers={"Content-Type": "application/json"})
    assert "no worker" in problem(answer, 503, "unavailable")["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    backend.state = "ready"
    client.app.state.context.service.begin_drain()  # type: ignore[attr-defined]
    answer = client.post("/classifier", json=LABELS)
    assert "this server is stopping" in problem(answer, 503, "unavailable")["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["the server is stopping"])
    assert client.get("/recall?labels=left").status_code == 200


def test_trainings_are_refused_below_the_minimum_of_free_disk(open_app: Open) -> None:
    client = open_app(min_free_bytes=2**62)
    problem(client.post("/classifier", json=LABELS), 507, "storage-failed")
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
    assert "the disk has less than" in ready.json()["reasons"][0]
    assert client.get("/recall?labels=left").status_code == 200


def test_requests_are_counted_by_key(open_app: Open) -> None:
    client = open_app(api_keys=KEYS, request_rate="3/hour")
    asked = [client.get("/bundles", headers=bearer(READ)) for _ in range(4)]
    assert [answer.status_code for answer in asked] == [200, 200, 200, 429]
    assert "key reader has used up its 3 requests" in problem(asked[3], 429, "overloaded")["detail"]
    assert 1 <= int(asked[3].headers["retry-after"]) <= 120
    assert client.get("/bundles", headers=bearer(TRAIN)).status_code == 200
    assert client.get("/health/live").status_code == 200


def test_work_is_counted_in_pictures_and_cached_answers_are_free(open_app: Open) -> None:
    client = open_app(work_rate="20/hour")
    for _ in range(30):
        assert client.get("/recall?labels=left&per_label=6").status_code == 200
    assert client.post("/classifier", json=LABELS).status_code == 202  # 2 classes x 4 rows x 30 steps: overdrawn
    problem(client.get("/recall?labels=left&per_label=6"), 429, "overloaded")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", ""])
def test_a_rebound_host_name_is_refused(client: TestClient, host: str) -> None:
    document = problem(client.get("/recall?labels=left", headers={"Host": host}), 403, "forbidden")
    assert "RECALL_API_KEYS" in document["detail"]


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_every_name_of_this_machine_is_accepted(client: TestClient, host: str) -> None:
    assert client.get("/recall?labels=left", headers={"Host": host}).status_code == 200


def test_a_page_of_another_site_cannot_change_anything(client: TestClient, open_app: Open) -> None:
    evil = {"Origin": "https://evil.example"}
    for answer in (
        client.post("/classifier", files=parts("left", "right"), headers=evil),
        client.post("/classifier", json=LABELS, headers={"Origin": "null"}),
        client.delete("/classifier/x", headers=evil),
    ):
        assert "another site" in problem(answer, 403, "forbidden")["detail"]
    assert client.post("/classifier", json=LABELS, headers={"Origin": "http://127.0.0.1"}).status_code == 202
    keyed = open_app(api_keys=KEYS, host="0.0.0.0")
    headers = evil | bearer(TRAIN) | {"Host": "recall.example"}
    assert keyed.post("/classifier", json=LABELS, headers=headers).status_code in (201, 202)


@pytest.mark.parametrize("path", ["/", "/health/ready", "/openapi.json", "/web/main.js"])
def test_open_routes_refuse_rebound_host_names_too(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 403


def test_a_recall_is_charged_even_if_it_cannot_be_sent(open_app: Open) -> None:
    client = open_app(work_rate="20/hour")
    wish = {"mixtures": [{"left": 1}] * 9_000}
    assert client.post("/recall?per_label=1&format=png", json=wish).status_code == 422
    assert client.post("/recall?per_label=1&format=png", json=wish).status_code == 429


@pytest.mark.parametrize(
    "origin", ["x://127.0.0.1", "ftp://127.0.0.1", "127.0.0.1", "//127.0.0.1", "http://127.0.0.1:1"]
)
def test_only_the_servers_own_origins_may_change_something(client: TestClient, origin: str) -> None:
    document = problem(client.post("/classifier", json=LABELS, headers={"Origin": origin}), 403, "forbidden")
    assert "another site" in document["detail"]


@pytest.mark.parametrize("site", ["cross-site", "same-site", "unheard-of"])
def test_a_server_without_keys_computes_nothing_for_pages_of_other_sites(
    client: TestClient, open_app: Open, site: str
) -> None:
    headers = {"Sec-Fetch-Site": site}
    for path in ("/recall?labels=left", "/bundles/places/bases", "/classifier", "/metrics"):
        assert "another site" in problem(client.get(path, headers=headers), 403, "forbidden")["detail"]
    assert client.get("/", headers=headers).status_code == 200, "a link to the page works"
    for own in ("same-origin", "none"):
        assert client.get("/recall?labels=left", headers={"Sec-Fetch-Site": own}).status_code == 200
    keyed = open_app(api_keys=KEYS)
    assert keyed.get("/recall?labels=left", headers=headers | bearer(READ)).status_code == 200


@pytest.mark.parametrize("claimed", ["evil", "1.2.3.4\x1b[2J", "127.0.0.1.evil.example", "", "key boss"])
def test_a_caller_is_an_address_or_unknown(open_app: Open, claimed: str, caplog: pytest.LogCaptureFixture) -> None:
    """What a proxy passes on in X-Forwarded-For becomes the client of the ASGI scope."""
    app = open_app().app
    proxied = TestClient(app, base_url="http://127.0.0.1", client=(claimed, 1))
    with caplog.at_level("INFO", "recall_server.api.guards.observed"):
        assert proxied.get("/recall?labels=left").status_code == 200
    callers = {vars(line)["caller"] for line in caplog.records if line.getMessage() == "request"}
    assert callers == {"address unknown"}
