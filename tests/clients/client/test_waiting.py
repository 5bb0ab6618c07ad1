"""Waiting outlives what happens to servers and to what stands in between."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

import recall_client
from recall_client import Classifier, RecallClient, RecallError
from recall_server.core.training.retraining import Retraining
from tests.clients.toy_server import label_bundle

GONE = httpx2.ConnectError("Connection refused")


@pytest.fixture
def waiting(server: Any, patient: RecallClient, describe: Any) -> Classifier:
    server.on("POST", "/classifier", describe("queued"))
    return patient.train(["Sneaker", "Bag"])


def test_a_server_that_restarts_is_waited_for(
    server: Any, waiting: Classifier, describe: Any, pauses: list[float]
) -> None:
    page = httpx2.Response(502, headers={"Content-Type": "text/html"}, content=b"<h1>Bad gateway</h1>")
    stopping = httpx2.Response(503, headers={"Retry-After": "5"})
    cancelled = httpx2.Response(500, headers={"Content-Type": "text/plain"}, content=b"Internal Server Error")
    gone = [cancelled, httpx2.ReadError("reset"), *[GONE] * 8, page, stopping, httpx2.ReadTimeout("slow")]
    seen: list[str] = []
    server.on("GET", "/classifier/c1", describe("running"), *gone, describe("queued"), describe("succeeded"))
    waiting.wait(on_progress=lambda state: seen.append(state.status))
    assert seen == ["running", "queued", "succeeded"]
    assert max(pauses) >= 5  # as the server asked


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx2.Response(404), recall_client.NotFound),
        (httpx2.Response(401), recall_client.Unauthorised),
        (httpx2.Response(507), recall_client.StorageFailed),
        (httpx2.Response(200, content=b"<h1>Please log in</h1>"), recall_client.UnexpectedAnswer),
        (httpx2.Response(302, headers={"Location": "/login"}), recall_client.UnexpectedAnswer),
    ],
)
def test_a_permanent_error_ends_the_wait(
    server: Any, waiting: Classifier, pauses: list[float], answer: httpx2.Response, error: type[Exception]
) -> None:
    server.on("GET", "/classifier/c1", answer)
    with pytest.raises(error):
        waiting.wait()
    assert len(server.asked) == 2


def test_a_timeout_during_an_outage_reports_both(server: Any, waiting: Classifier, describe: Any) -> None:
    server.on("GET", "/classifier/c1", describe("running"), GONE)
    with pytest.raises(recall_client.StillTraining, match=r"still running after 0.3 s; .*Connection refused"):
        waiting.wait(timeout=0.3)
    assert waiting.status == "running"


def test_an_outage_that_is_too_long_ends_the_wait(
    server: Any, waiting: Classifier, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recall_client.connection.retries.SILENCE", 0.2)
    server.on("GET", "/classifier/c1", GONE)
    with pytest.raises(recall_client.NoAnswer, match="is the server running?"):
        waiting.wait(timeout=None)


def test_a_client_without_retries_does_not_wait_for_a_server(
    server: Any, client: RecallClient, describe: Any, pauses: list[float]
) -> None:
    server.on("POST", "/classifier", describe("queued"))
    server.on("GET", "/classifier/c1", GONE)
    with pytest.raises(recall_client.NoAnswer):
        client.train(["Sneaker", "Bag"]).wait()
    assert pauses == []


@contextlib.contextmanager
def running(folder: Path, port: int) -> Iterator[None]:
    """A real server, asked to stop in the end."""
    settings = {"RECALL_ARTIFACTS": str(folder / "artifacts"), "RECALL_STATE": str(folder / "state")}
    settings |= {"RECALL_DEVICE": "cpu", "RECALL_DRAIN_SECONDS": "0", "RECALL_LEASE_SECONDS": "2"}
    command = [sys.executable, "-m", "recall_server", "serve", "--port", str(port)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


@pytest.mark.timeout(300)
def test_a_real_server_restarts_in_the_middle_of_a_training(tmp_path: Path) -> None:
    (tmp_path / "artifacts/bundles").mkdir(parents=True)
    bundle = label_bundle(lambda retraining: Retraining(**(dict(retraining) | {"steps": 1000})))
    bundle.save(tmp_path / "artifacts/bundles/columns.safetensors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with RecallClient(f"http://127.0.0.1:{port}") as client, ThreadPoolExecutor() as threads:
        with running(tmp_path, port):
            classifier = eventually(lambda: client.train(["left", "right"]))
            heard = threads.submit(lambda: list(client.classifier(classifier.id).events()))
            watched = threads.submit(lambda: client.classifier(classifier.id).wait(200, on_progress=lambda state: None))
            trained = threads.submit(lambda: classifier.wait(200))
            eventually(lambda: client.classifier(classifier.id).state.progress)
        assert not trained.done() and not watched.done() and not heard.done()
        with running(tmp_path, port):
            assert trained.result(200).status == watched.result(200).status == "succeeded"
            events = heard.result(200)
        assert [each.number for each in events] == list(range(1, len(events) + 1))
        assert "queued" in [each.status for each in events[1:]]  # it went back into the queue, and nobody noticed


def eventually(ask: Callable[[], Any]) -> Any:
    """The first answer that is one, of a server that starts or of a training that begins."""
    limit = time.monotonic() + 90
    while time.monotonic() < limit:
        with contextlib.suppress(RecallError):
            if answer := ask():
                return answer
        time.sleep(0.1)
    pytest.fail("nothing happened")
