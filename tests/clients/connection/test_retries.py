"""What fails for a while is tried again: how often, how soon, and when not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest

import recall_client
from recall_client import AsyncRecallClient, NoAnswer, RecallClient, RecallError
from recall_client.connection.retries import LONGEST, LONGEST_BACKOFF, SILENCE, Outage, Retries
from recall_client.errors import ProblemDocument, problem

INFO = httpx2.Response(200, json={"name": "n", "version": "0.1.0", "limits": {}})
GONE = httpx2.ConnectError("Connection refused")


def refused(status: int, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, headers=headers)


def failure(status: int, retry_after: float | None = None) -> RecallError:
    return problem(ProblemDocument(status, retry_after=retry_after))


@pytest.mark.parametrize("passing", [GONE, httpx2.ReadTimeout("slow"), *map(refused, (429, 502, 503, 504))])
def test_transient_errors_are_retried(server: Any, patient: RecallClient, pauses: list[float], passing: Any) -> None:
    server.on("GET", "/info", passing, passing, passing, INFO)
    assert patient.info().version == "0.1.0"
    assert len(pauses) == 3 and all(0 <= pause <= 0.5 * 2**number for number, pause in enumerate(pauses))


def test_an_error_that_persists_is_raised_in_the_end(server: Any, patient: RecallClient, pauses: list[float]) -> None:
    server.on("GET", "/info", GONE)
    with pytest.raises(NoAnswer, match="Connection refused"):
        patient.info()
    assert len(server.asked) == 4 and len(pauses) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 507])
def test_permanent_errors_are_not_retried(server: Any, patient: RecallClient, pauses: list[float], status: int) -> None:
    server.on("GET", "/info", refused(status))
    with pytest.raises(recall_client.Problem):
        patient.info()
    assert len(server.asked) == 1 and pauses == []


def test_a_client_without_retries_asks_once(server: Any, client: RecallClient, pauses: list[float]) -> None:
    server.on("GET", "/info", refused(503, **{"Retry-After": "1"}))
    with pytest.raises(recall_client.Unavailable) as caught:
        client.info()
    assert caught.value.retry_after == 1 and len(server.asked) == 1 and pauses == []


def test_retry_after_sets_the_pause(server: Any, patient: RecallClient, pauses: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    waits = [refused(429, **{"Retry-After": said}) for said in ("7", soon, "soon")]
    server.on("GET", "/info", *waits, INFO)
    patient.info()
    assert 7 <= pauses[0] <= 7.5 and 17 <= pauses[1] <= 20.5 and pauses[2] <= 2


def test_a_retry_after_that_is_too_long_raises_the_error(
    server: Any, patient: RecallClient, pauses: list[float]
) -> None:
    server.on("GET", "/info", refused(429, **{"Retry-After": "3600"}))
    with pytest.raises(recall_client.Overloaded) as caught:
        patient.info()
    assert caught.value.retry_after == 3600 and pauses == []


def test_a_retried_training_is_the_same_training(
    server: Any, patient: RecallClient, pauses: list[float], describe: Any
) -> None:
    server.on("POST", "/classifier", httpx2.ReadError("broke off"), describe("queued"))
    patient.train({"a": [b"1"], "b": [b"2"]})
    first, second = server.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert second.content.count(b"filename=") == 2


def test_a_deletion_whose_answer_was_lost_succeeds(
    server: Any, patient: RecallClient, pauses: list[float], describe: Any
) -> None:
    server.on("GET", "/classifier/c1", describe("succeeded"))
    classifier = patient.classifier("c1")
    server.on("DELETE", "/classifier/c1", httpx2.ReadError("broke off"), refused(404))
    classifier.delete()
    server.on("DELETE", "/classifier/c1", refused(503), refused(404))  # the first try was refused, so nothing was done
    with pytest.raises(recall_client.NotFound):
        classifier.delete()


def test_the_asyncio_client_pauses_in_the_same_way(server: Any, pauses: list[float]) -> None:
    server.on("GET", "/info", GONE, refused(503, **{"Retry-After": "2"}), INFO)

    async def ask() -> str:
        async with AsyncRecallClient("http://fake", transport=httpx2.MockTransport(server)) as client:
            return (await client.info()).version

    assert asyncio.run(ask()) == "0.1.0"
    assert pauses[0] <= 0.5 and 2 <= pauses[1] <= 2.5


def test_pauses_are_random_and_grow_up_to_a_limit() -> None:
    longest, shortest = Retries(10**6, chance=lambda: 1.0), Retries(10**6, chance=lambda: 0.0)
    assert [longest.pause(number, failure(503)) for number in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert longest.pause(10**5, failure(503)) == LONGEST_BACKOFF
    assert shortest.pause(5, failure(503)) == 0.0
    assert shortest.pause(1, failure(429, LONGEST)) == LONGEST and shortest.pause(1, failure(429, LONGEST + 1)) is None


def test_the_time_of_an_outage_starts_anew_after_an_answer() -> None:
    now = 0.0
    outage = Outage(Retries(1, chance=lambda: 1.0), clock=lambda: now)
    gone = NoAnswer("nobody there")
    outage.failed(gone)
    now = SILENCE - 10
    outage.failed(gone)  # more failures than retries, for this is no request that fails but a server that restarts
    outage.over()
    now = 2 * SILENCE
    assert outage.failed(gone) == 0.5
    now = 3 * SILENCE
    with pytest.raises(NoAnswer, match="nobody there"):
        outage.failed(gone)
    with pytest.raises(recall_client.NotFound):
        outage.failed(failure(404))
    with pytest.raises(NoAnswer):
        Outage(Retries(0)).failed(gone)
