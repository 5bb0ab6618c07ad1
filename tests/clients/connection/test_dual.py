"""What is written once is offered twice: both clients have the same methods, documented, and neither runs a loop."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import httpx2
import pytest

from recall_client import AsyncClassifier, AsyncRecallClient, Classifier, RecallClient
from recall_client.connection.dual import Blocking, dual, dual_iterator, run

PAIRS = [(RecallClient, AsyncRecallClient), (Classifier, AsyncClassifier)]
CLOSING = {"close", "aclose"}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")} - CLOSING


@pytest.mark.parametrize(("blocking", "asynchronous"), PAIRS)
def test_both_clients_have_the_same_documented_methods(blocking: type, asynchronous: type) -> None:
    assert public(blocking) == public(asynchronous)
    for name in public(blocking):
        one, other = getattr(blocking, name), getattr(asynchronous, name)
        assert len(inspect.getdoc(one) or "") > 10 and inspect.getdoc(one) == inspect.getdoc(other)
        if inspect.isfunction(one):
            assert inspect.signature(one) == inspect.signature(other)
            assert not inspect.iscoroutinefunction(one) and not inspect.isasyncgenfunction(one)
            assert inspect.iscoroutinefunction(other) or inspect.isasyncgenfunction(other)


def test_the_blocking_client_works_inside_an_event_loop(server: Any, client: RecallClient) -> None:
    """In a notebook the caller's thread already runs a loop."""
    server.on("GET", "/bundles", httpx2.Response(200, json={"bundles": []}))

    async def cell() -> list[Any]:
        return client.bundles()

    assert asyncio.run(cell()) == []


def test_a_blocking_iterator_closes_what_it_iterates() -> None:
    closed: list[str] = []

    class Counting(Blocking):
        @dual_iterator
        async def count(self) -> Any:
            try:
                for number in range(3):
                    yield number
            finally:
                closed.append("closed")

    assert list(Counting().count()) == [0, 1, 2]
    items = Counting().count()
    assert next(items) == 0
    items.close()
    assert closed == ["closed", "closed"]


def test_a_method_that_suspends_is_reported_by_name() -> None:
    class Sleepy(Blocking):
        @dual
        async def nap(self) -> None:
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="a blocking call awaited an event loop"):
        Sleepy().nap()


def test_an_exception_of_a_method_reaches_the_caller() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run(fail())
