"""Two servers: a fake one with prepared answers, and a real one with toy memories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from recall_client import RecallClient
from tests.clients.toy_server import toy_artifacts

Answer = httpx2.Response | Exception | Callable[[httpx2.Request], httpx2.Response]


class FakeServer:
    """Answers each (method, path) with its prepared answers in order, and then repeats the last one."""

    def __init__(self) -> None:
        self.asked: list[httpx2.Request] = []
        self._answers: dict[tuple[str, str], list[Answer]] = {}

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self._answers[method, path] = list(answers)

    def refuse(self, method: str, path: str, status: int, kind: str, **members: Any) -> None:
        document = {"type": f"/problems/{kind}", "title": kind, "status": status, "detail": f"about {kind}", **members}
        headers = {"Content-Type": "application/problem+json"}
        self.on(method, path, httpx2.Response(status, headers=headers, json=document))

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.asked.append(request)
        answers = self._answers[request.method, request.url.path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        # A response can be read only once, so a fresh one is sent each time.
        return (
            answer(request)
            if callable(answer)
            else httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)
        )


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def client(server: FakeServer) -> Iterator[RecallClient]:
    """A client that asks once; test_retries.py tests further tries."""
    with RecallClient("http://fake", retries=0, transport=httpx2.MockTransport(server)) as client:
        yield client


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, in seconds, that were asked for instead of slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("recall_client.connection.blocking.time.sleep", slept.append)
    monkeypatch.setattr("recall_client.connection.asyncio.asyncio.sleep", sleep)
    return slept


@pytest.fixture
def patient(server: FakeServer) -> Iterator[RecallClient]:
    """A client that asks up to four times."""
    with RecallClient("http://fake", retries=3, transport=httpx2.MockTransport(server)) as client:
        yield client


@pytest.fixture(scope="session")
def address(serve: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a real server with the toy memories."""
    return serve(toy_artifacts(tmp_path_factory.mktemp("artifacts")))


def classifier_body(status: str = "queued", **members: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "status": status,
        "is_terminal": status in ("succeeded", "failed", "cancelled"),
        "labels": ["Sneaker", "Bag"],
        "bundle": {"name": "fashion-mnist", "sha256": "ab"},
        "queries": "labels",
        "pictures": None,
        "image": {"channels": 1, "height": 28, "width": 28},
        "network": "convnet:filters=128,depth=3",
        "seed": 0,
        "progress": None,
        "created_at": "2026-11-21T14:50:00.123456Z",
        "links": {"self": "/classifier/c1"},
        **members,
    }


@pytest.fixture
def describe() -> Callable[..., httpx2.Response]:
    """describe("running", progress=...) is the server's answer for a classifier of that status."""
    return lambda status, **members: httpx2.Response(200, json=classifier_body(status, **members))
