"""What waits is computed together, what finds nothing under way begins at once, what is given up is not computed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest

from recall_server.api.state import prediction_queue
from recall_server.api.state.prediction_queue import PredictionQueue
from recall_server.errors import InvalidRequest, Overloaded
from recall_server.recall import Picture
from recall_server.service.batch_prediction import TOGETHER, Outcome, PredictionRequest
from recall_server.service.predictions import Predictions

PATIENCE = 60.0


def asked(identifier: str, count: int = 1) -> PredictionRequest:
    return PredictionRequest(identifier, [Picture("images", "", b"")] * count)


def said(request: PredictionRequest) -> Predictions:
    return Predictions((request.identifier,), np.ones((len(request.pictures), 1), dtype=np.float32), "classifier")


class Network:
    """Answers batches one by one, each when it is told to."""

    def __init__(self) -> None:
        self.begun: list[list[PredictionRequest]] = []
        self._allowed = threading.Semaphore(0)

    def predict(self, requests: Sequence[PredictionRequest]) -> list[Outcome]:
        self.begun.append(list(requests))
        assert self._allowed.acquire(timeout=PATIENCE)
        return [said(request) for request in requests]

    def end(self, batches: int = 1) -> None:
        self._allowed.release(batches)

    def sizes(self) -> list[int]:
        """The pictures of each batch that has begun."""
        return [sum(len(request.pictures) for request in batch) for batch in self.begun]

    async def have_begun(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.begun) < count:
                await asyncio.sleep(0.005)


def run(scenario: Callable[[Network], Coroutine[Any, Any, None]]) -> None:
    network = Network()
    try:
        asyncio.run(asyncio.wait_for(scenario(network), PATIENCE))
    finally:
        network.end(1000)


def test_the_first_request_runs_at_once_and_later_ones_are_batched() -> None:
    async def scenario(network: Network) -> None:
        batches = PredictionQueue(network.predict, lambda name: name, threads=2)
        first = batches.submit(asked("a"))
        await network.have_begun(1)
        others = [batches.submit(asked("a", count)) for count in (1, 2, 3)]
        await asyncio.sleep(0)
        assert network.sizes() == [1], "nothing else of this network is computed meanwhile"
        network.end(2)
        answers = await asyncio.gather(first, *others)
        assert [len(answer) for answer in answers] == [1, 1, 2, 3]
        assert network.sizes() == [1, 6]

    run(scenario)


def test_another_network_and_a_full_batch_do_not_wait() -> None:
    async def scenario(network: Network) -> None:
        batches = PredictionQueue(network.predict, lambda name: name, threads=3)
        futures = [batches.submit(asked(name, count)) for name, count in (("a", 1), ("b", 1), ("a", TOGETHER))]
        await network.have_begun(3)
        assert sorted(network.sizes()) == [1, 1, TOGETHER]
        network.end(3)
        await asyncio.gather(*futures)

    run(scenario)


def test_a_batch_has_a_size_and_networks_take_turns() -> None:
    async def scenario(network: Network) -> None:
        batches = PredictionQueue(network.predict, lambda name: name, threads=1)
        futures = [batches.submit(asked("a"))]
        await network.have_begun(1)
        futures += [batches.submit(asked("a", TOGETHER // 2)) for _ in range(4)]
        futures += [batches.submit(asked("b", 3 * TOGETHER))]  # larger than a batch: alone
        network.end(1000)
        await asyncio.gather(*futures)
        assert [batch[0].identifier for batch in network.begun] == ["a", "a", "b", "a"]
        assert network.sizes() == [1, TOGETHER, 3 * TOGETHER, TOGETHER]

    run(scenario)


def test_an_abandoned_request_is_not_computed_and_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_queue, "MOST_WAITING", 3)

    async def scenario(network: Network) -> None:
        batches = PredictionQueue(network.predict, lambda name: name, threads=1)
        first = batches.submit(asked("a"))
        await network.have_begun(1)
        left = [batches.submit(asked("a")) for _ in range(3)]
        with pytest.raises(Overloaded):
            batches.submit(asked("b"))
        for future in left:
            future.cancel()
        stayed = batches.submit(asked("a"))
        network.end(1000)
        assert len(await first) == len(await stayed) == 1
        assert network.sizes() == [1, 1]
        batches.check()

    run(scenario)


def test_an_error_reaches_only_its_own_request() -> None:
    def predict(requests: Sequence[PredictionRequest]) -> list[Outcome]:
        if requests[0].identifier == "none":
            raise RuntimeError("no batch at all")
        return [InvalidRequest("bad") if len(request.pictures) == 2 else said(request) for request in requests]

    async def scenario() -> None:
        batches = PredictionQueue(predict, lambda name: name, threads=1)
        good, bad, none = (batches.submit(asked(*request)) for request in (("a", 1), ("a", 2), ("none", 1)))
        assert len(await good) == 1
        with pytest.raises(InvalidRequest):
            await bad
        with pytest.raises(RuntimeError):
            await none
        assert len(await batches.submit(asked("a"))) == 1

    asyncio.run(scenario())


def test_requests_that_come_before_the_thread_has_begun_are_one_batch() -> None:
    async def scenario(network: Network) -> None:
        batches = PredictionQueue(network.predict, lambda name: name, threads=2)
        futures = [batches.submit(asked("a")) for _ in range(3)]
        network.end(3)
        await asyncio.gather(*futures)
        assert network.sizes() == [3]

    run(scenario)


def test_a_thread_takes_the_next_batch_while_the_event_loop_is_busy() -> None:
    async def scenario(network: Network) -> None:
        batches = PredictionQueue(network.predict, lambda name: name, threads=1)
        first = batches.submit(asked("a"))
        await network.have_begun(1)
        second = batches.submit(asked("a", TOGETHER))
        network.end(2)
        while len(network.begun) < 2:  # the event loop does nothing else
            time.sleep(0.001)
        assert not first.done(), "its answer waits for the event loop, and the next batch does not"
        await asyncio.gather(first, second)

    run(scenario)
