"""Two servers to talk to: a fake that answers what it was told to, and the real one in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from recall_client import RecallClient

Answer = httpx2.Response | Exception | Callable[[httpx2.Request], httpx2.Response]


PATIENCE = 60.0  # seconds until a real server's worker must be warm


class FakeServer:
    """Answers each (method, path) with its answers in order, the last one again and again."""

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
        # A response can be read once only, so that each time a fresh one goes out.
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
    with RecallClient("http://fake", transport=httpx2.MockTransport(server)) as client:
        yield client


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


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """serve(folder) starts a server with the bundles in `folder`, and returns its address when it is ready."""
    with ExitStack() as running:
        yield lambda folder: running.enter_context(_running_server(folder, tmp_path_factory.mktemp("server")))


@contextmanager
def _running_server(artifacts: Path, folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "recall_server", "serve", "--port", str(port)]
    settings = {"RECALL_ARTIFACTS": str(artifacts), "RECALL_STATE": str(folder / "state"), "RECALL_DEVICE": "cpu"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log)
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{address}/health/ready").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"the server did not become ready:\n{log.read_text()}")
