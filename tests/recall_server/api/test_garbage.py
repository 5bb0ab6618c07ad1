"""What a request leaves behind is freed at once.

Garbage in a cycle waits for a full collection, which keeps everybody waiting, the longer the more there is of it.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from recall_server.recall import Picture
from tests.recall_server.api.requests import parts, trained

Message = dict[str, Any]
ROUNDS = 5


@pytest.fixture
def only_when_asked() -> Iterator[None]:
    """No collection but those of the test."""
    enabled = gc.isenabled()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    if enabled:
        gc.enable()


def asked(app: FastAPI, method: str, path: str, body: bytes = b"", media: str = "application/json") -> int:
    """The status of an answer to a request that goes to the application directly: a client leaves garbage too."""
    path, _, query = path.partition("?")
    length = [(b"content-length", str(len(body)).encode())] if body else []
    headers = [(b"host", b"127.0.0.1"), (b"content-type", media.encode()), *length]
    scope: Message = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    received = iter([{"type": "http.request", "body": body, "more_body": False}])
    statuses: list[int] = []

    async def receive() -> Message:
        for message in received:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    asyncio.run(app(scope, receive, send))
    return statuses[0]


def requests_in_garbage() -> list[object]:
    """The requests, and the pictures of requests, that are garbage in cycles."""
    gc.collect()
    return [each for each in gc.garbage if isinstance(each, Picture) or (isinstance(each, dict) and "headers" in each)]


@pytest.mark.usefixtures("only_when_asked")
@pytest.mark.parametrize(
    ("status", "method", "path", "body"),
    [
        (200, "GET", "/bundles", b""),
        (200, "HEAD", "/bundles", b""),
        (200, "GET", "/classifier?limit=5", b""),
        (200, "GET", "/recall?labels=near,far", b""),
        (201, "POST", "/classifier", b'{"labels": ["near", "far"]}'),
        (200, "POST", "/classifier/IDENTIFIER/predict", b"FORM"),
        (404, "POST", "/classifier/unknown/predict", b"FORM"),
        (422, "POST", "/classifier/IDENTIFIER/predict", b"DAMAGED"),
        (202, "POST", "/classifier?bundle=columns", b"FORM"),
        (422, "POST", "/classifier?bundle=columns", b"DAMAGED"),
        (422, "POST", "/classifier/IDENTIFIER/explain", b"DAMAGED"),
        (200, "POST", "/recall?per_label=1", b"FORM"),
        (422, "POST", "/recall?per_label=1", b"DAMAGED"),
        (422, "POST", "/recall", b'{"labels": ["unknown"]}'),
        (415, "POST", "/classifier/IDENTIFIER/predict", b"no form"),
        (422, "POST", "/classifier", b'{"labels": []}'),
        (405, "DELETE", "/bundles", b""),
        (404, "GET", "/nothing", b""),
    ],
)  # fmt: skip
def test_requests_leave_no_garbage_in_cycles(
    client: TestClient, status: int, method: str, path: str, body: bytes
) -> None:
    app, media = client.app, "application/json"
    assert isinstance(app, FastAPI)
    if body in (b"FORM", b"DAMAGED"):
        pictures = parts("left", name="images") if "IDENT" in path else parts("left", "right")
        files = [(part, (name, data if body == b"FORM" else data[:60], kind)) for part, (name, data, kind) in pictures]
        form = client.build_request("POST", path, files=files)
        body, media = form.read(), form.headers["content-type"]
    path = path.replace("IDENTIFIER", trained(client, json={"labels": ["near", "far"]})["id"])
    assert asked(app, method, path, body, media) == status
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    for _ in range(ROUNDS):
        asked(app, method, path, body, media)
    assert requests_in_garbage() == []
