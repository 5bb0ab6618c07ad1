"""Events arrive in order and each once, over however many connections that takes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import httpx2
import pytest

import recall_client
from recall_client import AsyncRecallClient, Classifier, RecallClient

STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}
ENDED = httpx2.Response(204)


def event(number: int, kind: str = "progress", status: str = "running") -> bytes:
    document = {"number": number, "at": "2026-11-21T14:50:00Z", "kind": kind, "status": status}
    progress = {"done": number, "total": 9, "loss": 0.5} if kind == "progress" else None
    data = json.dumps(document | {"progress": progress, "error": None, "a_field_of_a_later_server": 1})
    return f"event: {kind}\ndata: {data}\nid: {number}\n\n".encode()


LAST = event(9, "status", "succeeded")


def stream(*pieces: bytes | Exception) -> Any:
    """An answer whose body arrives piece by piece, and may break off."""

    def body() -> Iterator[bytes]:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return lambda request: httpx2.Response(200, headers=STREAM, content=body())


@pytest.fixture
def classifier(server: Any, patient: RecallClient, describe: Any, pauses: list[float]) -> Classifier:
    server.on("GET", "/classifier/c1", describe("running"))
    return patient.classifier("c1")


def test_events_arrive_as_they_happen_until_the_last(server: Any, classifier: Classifier) -> None:
    whole = event(1, "status", "running") + b": keep-alive\n\n" + event(2) + LAST
    cut = [whole[:10], whole[10:11], whole[11:70], whole[70:]]  # packets end anywhere
    server.on("GET", "/classifier/c1/events", stream(*cut))
    heard = list(classifier.events())
    assert [(each.number, each.kind, each.status) for each in heard] == [
        (1, "status", "running"), (2, "progress", "running"), (9, "status", "succeeded"),
    ]  # fmt: skip
    assert heard[1].progress is not None and heard[1].progress.done == 2
    assert "last-event-id" not in server.asked[-1].headers
    assert server.asked[-1].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize(
    "lost", [httpx2.ReadError("reset"), httpx2.ReadTimeout("silent"), httpx2.RemoteProtocolError("cut off"), b""]
)
def test_a_lost_connection_resumes_after_the_last_event(
    server: Any, classifier: Classifier, pauses: list[float], lost: Any
) -> None:
    half = event(3)[:25]  # begun, but never ended: it has to come again
    server.on("GET", "/classifier/c1/events", stream(event(1), event(2), half, lost), stream(event(3), LAST))
    assert [each.number for each in classifier.events()] == [1, 2, 3, 9]
    assert server.asked[-1].headers["last-event-id"] == "2"
    assert len(pauses) == 1


def test_a_server_that_restarts_is_waited_for(server: Any, classifier: Classifier, pauses: list[float]) -> None:
    gone = [httpx2.ConnectError("refused")] * 6 + [httpx2.Response(503), httpx2.Response(502)]
    server.on("GET", "/classifier/c1/events", stream(event(1), httpx2.ReadError("reset")), *gone, stream(LAST))
    assert [each.number for each in classifier.events()] == [1, 9]
    assert len(pauses) == 9


def test_known_events_are_not_repeated(server: Any, classifier: Classifier) -> None:
    server.on("GET", "/classifier/c1/events", stream(event(4), event(5), event(6), LAST))
    assert [each.number for each in classifier.events(after=5)] == [6, 9]
    assert server.asked[-1].headers["last-event-id"] == "5"


def test_after_the_last_event_there_are_none(server: Any, classifier: Classifier) -> None:
    server.on("GET", "/classifier/c1/events", ENDED)
    assert list(classifier.events(after=9)) == []
    server.on("GET", "/classifier/c1/events", stream(event(1), httpx2.ReadError("reset")), ENDED)
    assert [each.number for each in classifier.events()] == [1]


def test_deleting_the_classifier_ends_its_events(server: Any, classifier: Classifier) -> None:
    server.on("GET", "/classifier/c1/events", stream(event(1)), httpx2.Response(404))
    events = classifier.events()
    assert next(events).number == 1
    with pytest.raises(recall_client.NotFound):
        next(events)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx2.Response(200, headers={"Content-Type": "text/html"}, content=b"<h1>"), "text/html, not events"),
        (stream(b"data: {broken\n\n"), "an event of classifier c1 does not have the expected form"),
        (stream(b'data: {"number": 1}\n\n'), "an event of classifier c1"),
    ],
)
def test_malformed_events_are_refused(server: Any, classifier: Classifier, answer: Any, message: str) -> None:
    server.on("GET", "/classifier/c1/events", answer)
    with pytest.raises(recall_client.UnexpectedAnswer, match=message):
        list(classifier.events())


def test_a_client_without_retries_reports_a_lost_connection(server: Any, client: RecallClient, describe: Any) -> None:
    server.on("GET", "/classifier/c1", describe("running"))
    server.on("GET", "/classifier/c1/events", stream(event(1), httpx2.ReadError("reset")))
    events = client.classifier("c1").events()
    assert next(events).number == 1
    with pytest.raises(recall_client.NoAnswer, match="reset"):
        next(events)


def test_leaving_the_loop_closes_the_connection(server: Any, classifier: Classifier) -> None:
    answers: list[httpx2.Response] = []

    def remembered(request: httpx2.Request) -> httpx2.Response:
        answers.append(stream(event(1), event(2), LAST)(request))
        return answers[-1]

    server.on("GET", "/classifier/c1/events", remembered)
    events = classifier.events()
    assert next(events).number == 1
    assert not answers[0].is_closed
    events.close()
    assert answers[0].is_closed


def test_the_asyncio_client_gets_the_same_events(server: Any, describe: Any, pauses: list[float]) -> None:
    def pieces(*sent: bytes | Exception) -> Any:
        async def body() -> Any:
            for piece in sent:
                if isinstance(piece, Exception):
                    raise piece
                yield piece

        return lambda request: httpx2.Response(200, headers=STREAM, content=body())

    server.on("GET", "/classifier/c1", describe("running"))
    server.on("GET", "/classifier/c1/events", pieces(event(1), httpx2.ReadError("reset")), pieces(event(2), LAST))

    async def listen() -> list[int]:
        async with AsyncRecallClient("http://fake", transport=httpx2.MockTransport(server)) as client:
            classifier = await client.classifier("c1")
            async with aclosing(classifier.events()) as events:
                return [each.number async for each in events]

    assert asyncio.run(listen()) == [1, 2, 9]
    assert len(pauses) == 1
