"""What happens to a training, as pages and as a stream that goes on where it broke off."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recall_server.api.state import job_feeds
from recall_server.jobs.rows.records import Progress
from tests.recall_server.api.live import exchange, listening
from tests.recall_server.api.requests import problem
from tests.recall_server.serving_examples import ManualBackend

STREAM = {"Accept": "text/event-stream"}
LABELS = {"labels": ["left", "right"]}


def queued(client: TestClient, backend: ManualBackend) -> str:
    backend.eager = False
    path: str = client.post("/classifier", json=LABELS).json()["links"]["events"]
    return path


def parsed(text: str) -> list[dict[str, Any]]:
    """The events of a stream: their fields, with data as JSON; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append(fields | {"data": json.loads(fields["data"])})
    return found


def test_a_page_tells_status_and_progress_in_order(client: TestClient, backend: ManualBackend) -> None:
    path = queued(client, backend)
    backend.perform()
    events = client.get(path).json()["events"]
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    statuses = [event["status"] for event in events if event["kind"] == "status"]
    assert statuses == ["queued", "running", "succeeded"]
    progress = [event["progress"]["done"] for event in events if event["kind"] == "progress"]
    assert progress and progress == sorted(progress)
    first, rest = client.get(f"{path}?limit=1").json()["events"], client.get(f"{path}?after=1").json()["events"]
    assert first + rest == events
    assert client.get(f"{path}?after={len(events)}").json() == {"events": []}


def test_an_empty_page_can_wait_for_events(client: TestClient, backend: ManualBackend) -> None:
    path = queued(client, backend)
    timer = threading.Timer(0.3, backend.begin)
    timer.start()
    answer = client.get(f"{path}?after=1", headers={"Prefer": "wait=20"})
    timer.join()
    assert answer.headers["preference-applied"] == "wait=20"
    assert [event["status"] for event in answer.json()["events"]] == ["running"]
    began = time.monotonic()
    assert client.get(f"{path}?after=2", headers={"Prefer": "wait=0.2"}).json() == {"events": []}
    assert time.monotonic() - began < 5


def test_a_stream_runs_to_the_end_and_resumes_where_it_broke_off(client: TestClient, backend: ManualBackend) -> None:
    path = queued(client, backend)
    assignment = backend.begin()
    backend.source.progressed(assignment, Progress(done=1, total=30, loss=2.0))
    timer = threading.Timer(0.3, backend.perform, [assignment])
    timer.start()
    answer = client.get(path, headers=STREAM)
    timer.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    events = parsed(answer.text)
    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
    assert [event["data"] for event in events] == client.get(path, params={"limit": 1000}).json()["events"]
    assert events[-1]["event"] == "status" and events[-1]["data"]["status"] == "succeeded"
    resumed = client.get(path, headers=STREAM | {"Last-Event-ID": events[1]["id"]})
    assert parsed(resumed.text) == events[2:]


@pytest.mark.process
def test_all_events_so_far_are_one_piece_of_the_answer(client: TestClient, backend: ManualBackend) -> None:
    """Each piece passes through every guard, so a hundred of them would hold the event loop for long."""
    path = queued(client, backend)
    backend.perform()
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"
    with listening(client.app) as address:
        _, _, body = exchange(address, head.encode()).partition(b"\r\n\r\n")
    size, _, rest = body.partition(b"\r\n")  # of the first chunk (RFC 9112, section 7.1)
    assert len(parsed(rest[: int(size, 16)].decode())) >= 3
    assert rest[int(size, 16) :] == b"\r\n0\r\n\r\n"


def test_a_follower_with_an_impossible_event_number_does_not_affect_others(
    client: TestClient, backend: ManualBackend
) -> None:
    path = queued(client, backend)
    with listening(client.app) as address:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n"
        with socket.create_connection(address, timeout=20) as ahead:
            ahead.sendall(f"{head}Last-Event-ID: 2147483647\r\n\r\n".encode())
            assert ahead.recv(12) == b"HTTP/1.1 200"
            timer = threading.Timer(0.3, backend.perform)
            timer.start()
            answer = exchange(address, f"{head}\r\n".encode()).decode()
            timer.join()
    assert '"succeeded"' in answer


def test_after_the_end_a_browser_is_told_not_to_reconnect(client: TestClient, backend: ManualBackend) -> None:
    path = queued(client, backend)
    backend.perform()
    last = str(len(client.get(path, params={"limit": 1000}).json()["events"]))
    answer = client.get(path, headers=STREAM | {"Last-Event-ID": last})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("how", ["cancel", "delete", "drain"])
def test_a_stream_ends_when_no_event_can_follow(client: TestClient, backend: ManualBackend, how: str) -> None:
    path = queued(client, backend)
    backend.begin()
    this = path.removesuffix("/events")
    ends = {
        "cancel": lambda: client.post(f"{this}/cancel"),
        "delete": lambda: client.delete(this),
        "drain": lambda: client.app.state.context.service.begin_drain(),  # type: ignore[attr-defined]
    }
    timer = threading.Timer(0.3, ends[how])
    timer.start()
    events = parsed(client.get(path, headers=STREAM).text)
    timer.join()
    assert [event["data"]["status"] for event in events][:2] == ["queued", "running"]
    assert how != "cancel" or events[-1]["data"]["status"] == "cancelled"


@pytest.mark.parametrize("last", ["-1", "abc", "1" * 30, "1.5"])
def test_a_malformed_last_event_id_is_refused(client: TestClient, backend: ManualBackend, last: str) -> None:
    path = queued(client, backend)
    document = problem(client.get(path, headers=STREAM | {"Last-Event-ID": last}), 422, "invalid-request")
    assert document["parameter"] == "Last-Event-ID"


def test_bad_parameters_are_refused(client: TestClient, backend: ManualBackend) -> None:
    path = queued(client, backend)
    problem(client.get("/classifier/nobody/events"), 404, "not-found")
    problem(client.get("/classifier/nobody/events", headers=STREAM), 404, "not-found")
    problem(client.get(f"{path}?after=-1"), 422, "invalid-request")
    problem(client.get(f"{path}?limit=0"), 422, "invalid-request")
    problem(client.get(path, headers={"Accept": "image/png"}), 406, "not-acceptable")


def test_the_streams_of_one_caller_are_limited(
    client: TestClient, backend: ManualBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_feeds, "MOST_STREAMS_OF_A_CALLER", 3)
    path = queued(client, backend)
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n".encode()
    with listening(client.app) as address, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(3)]
        for stream in streams:
            stream.sendall(head)
            assert stream.recv(12) == b"HTTP/1.1 200"
        assert exchange(address, head)[9:12] == b"429"
        streams.pop().close()
        limit = time.monotonic() + 20
        while True:
            again = stack.enter_context(socket.create_connection(address, timeout=20))
            again.sendall(head)
            if again.recv(12) == b"HTTP/1.1 200":
                break
            assert time.monotonic() < limit
        backend.perform()


@pytest.mark.parametrize("last", ["50", "2000000000"])
def test_an_impossible_last_event_id_starts_from_the_first_event(
    client: TestClient, backend: ManualBackend, last: str
) -> None:
    path = queued(client, backend)
    timer = threading.Timer(0.3, backend.perform)
    timer.start()
    events = parsed(client.get(path, headers=STREAM | {"Last-Event-ID": last}).text)
    timer.join()
    assert [event["id"] for event in events][:3] == ["1", "2", "3"]
