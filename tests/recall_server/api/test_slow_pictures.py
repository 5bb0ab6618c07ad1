"""Pictures that cost more than their size: refused, charged, shared out, and given up with the caller."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.requests import ClientDisconnect, Request

from benchmarks.hostile_files import flat_webp, progressive
from recall_server.api.state.context import CONCURRENT
from recall_server.api.state.decoding_shares import DecodingShares
from recall_server.errors import Abandoned, Overloaded
from recall_server.recall import Picture, Upload
from recall_server.service.batch_prediction import PredictionRequest
from recall_server.service.predictions import Predictions
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import Part, parts, problem

LABELS = {"labels": ["left", "right"]}


def slow(name: str, data: bytes, count: int = 1) -> list[Part]:
    return [(name, (f"{number}.jpg", data, "image/jpeg")) for number in range(count)]


def routes(client: TestClient) -> list[str]:
    """All that take pictures."""
    made = client.post("/classifier", json=LABELS, headers={"Prefer": "wait=30"}).json()["links"]
    return ["/recall", "/classifier", made["predict"]]


def test_a_jpeg_of_600_scans_is_refused_on_every_route(client: TestClient) -> None:
    for path in routes(client):
        sent = slow("images", progressive(600)) + parts("left", count=1, name="images" if "/predict" in path else None)
        document = problem(client.post(path, files=sent), 413, "picture-too-large")
        assert "more than 32 scans" in document["detail"]


@pytest.mark.process
def test_a_photograph_of_63_megapixels_is_read_on_every_route(client: TestClient) -> None:
    file = io.BytesIO()
    Image.new("L", (9000, 7000), 90).save(file, "JPEG")
    for path in routes(client):
        name = "images" if "/predict" in path else None
        sent = slow(name or "left", file.getvalue(), 1) + parts("right", name=name)
        assert client.post(path, files=sent).is_success


def test_the_pixels_of_a_request_are_limited_together(open_app: Open) -> None:
    client = open_app(max_request_pixels=2_000_000)
    for path in routes(client):
        sent = slow("images", flat_webp(900), 3) + parts("left", count=1, name="images" if "/predict" in path else None)
        document = problem(client.post(path, files=sent), 413, "picture-too-large")
        assert "more than the 2,000,000 of one request" in document["detail"]
    assert client.get("/info").json()["limits"]["request_pixels"] == 2_000_000


@pytest.mark.process
def test_decoded_pixels_are_charged(open_app: Open) -> None:
    client = open_app(work_rate="30/hour")
    for status in (200, 200, 200, 429):
        assert client.post("/recall?per_label=1", files=slow("left", flat_webp(3000))).status_code == status


@pytest.mark.process
def test_large_and_small_pictures_keep_their_order(client: TestClient) -> None:
    made = client.post("/classifier", json=LABELS, headers={"Prefer": "wait=30"}).json()["links"]
    small = parts("left", "right", count=1, name="images")
    large = [(name, (file, enlarged(data), kind)) for name, (file, data, kind) in small]
    answers = [client.post(made["predict"], files=sent).json() for sent in (small * 2, small + large, large + small)]
    assert [[each["label"] for each in answer["predictions"]] for answer in answers] == [["left", "right"] * 2] * 3
    damaged = ("images", ("cut off.png", enlarged(b"")[:20_000], "image/png"))
    detail = problem(client.post(made["predict"], files=[*large, damaged]), 422, "unreadable-picture")["detail"]
    assert "cut off.png" in detail


def enlarged(data: bytes) -> bytes:
    """The picture as a PNG that is decoded in a process; of no data, noise."""
    noise = np.random.default_rng(1).integers(0, 256, (1100, 1100), dtype=np.uint8)
    picture = Image.open(io.BytesIO(data)).resize((1100, 1100), Image.Resampling.BOX) if data else noise
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def test_one_caller_decodes_one_full_request_at_a_time() -> None:
    shares = DecodingShares(100)
    with shares.share("a") as first, shares.share("a") as second, shares.share("b") as other:
        first.take(80)
        other.take(80)
        with pytest.raises(Overloaded):
            second.take(30)
        second.take(20)
    with shares.share("a") as again:
        again.take(100)


class Leaver:
    """A request whose caller leaves when told to."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()
        scope: dict[str, Any] = {"type": "http", "headers": []}
        self.request = Request(scope, self._receive)

    async def _receive(self) -> dict[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}


def test_work_and_waiting_are_abandoned_when_the_caller_disconnects(client: TestClient) -> None:
    context = client.app.state.context  # type: ignore[attr-defined]
    ended, begun = threading.Event(), threading.Event()

    def compute(upload: Upload) -> None:
        upload.charge(1000)
        begun.set()
        limit = time.monotonic() + 20
        while upload.wanted() and time.monotonic() < limit:
            time.sleep(0.01)
        ended.set()

    async def scenario() -> None:
        callers = [Leaver() for _ in range(20)]  # many more than threads
        tasks = [asyncio.create_task(context.run_for(caller.request, compute)) for caller in callers]
        await asyncio.to_thread(begun.wait, 10)
        for caller in callers:
            caller.leave.set()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 15)
        assert sum(isinstance(result, ClientDisconnect) for result in results) >= 20 - CONCURRENT, results
        assert ended.is_set()
        assert await asyncio.wait_for(context.run(lambda: 7), 5) == 7

    asyncio.run(scenario())
    assert not context.decoding._pixels, "every share was given back"


def test_results_and_errors_are_passed_on(client: TestClient) -> None:
    context = client.app.state.context  # type: ignore[attr-defined]

    def fail(_: Upload) -> None:
        raise Overloaded("too much")

    async def scenario() -> None:
        assert await context.run_for(Leaver().request, lambda _: 3) == 3
        with pytest.raises(Overloaded):
            await context.run_for(Leaver().request, fail)

    asyncio.run(scenario())


def test_a_prediction_is_abandoned_when_its_caller_disconnects(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = client.app.state.context  # type: ignore[attr-defined]
    made = client.post("/classifier", json=LABELS, headers={"Prefer": "wait=30"}).json()["id"]
    begun, go_on, wanted = threading.Event(), threading.Event(), []

    def predict(requests: list[PredictionRequest]) -> list[Predictions]:
        wanted.extend(request.upload.wanted() for request in requests)
        requests[0].upload.charge(1000)
        begun.set()
        go_on.wait(60)
        wanted.extend(request.upload.wanted() for request in requests)
        if not wanted[-1]:
            with pytest.raises(Abandoned):
                requests[0].upload.charge(1000)
        return [Predictions(("left",), np.ones((1, 1), dtype=np.float32), "classifier")] * len(requests)

    monkeypatch.setattr(context.predictions, "_predict", predict)
    shown = [Picture("images", "", b"")]

    async def scenario() -> None:
        callers = [Leaver() for _ in range(3)]
        tasks = [asyncio.create_task(context.predict(callers[0].request, made, shown, None))]
        assert await asyncio.to_thread(begun.wait, 60)
        tasks += [asyncio.create_task(context.predict(caller.request, made, shown, None)) for caller in callers[1:]]
        await asyncio.sleep(0)  # they wait for the batch that has begun
        for caller in callers:
            caller.leave.set()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        assert [type(result) for result in results] == [ClientDisconnect] * 3
        go_on.set()
        assert len(await context.predict(Leaver().request, made, shown, None)) == 1

    asyncio.run(scenario())
    assert wanted == [True, False, True, True], "those that had not begun were never computed"
    assert not context.decoding._pixels, "every share was given back"
