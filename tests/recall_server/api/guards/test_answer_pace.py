"""Callers who ask for much and read little of it: their answers end, and their memory is given back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message

from recall_server.api.guards.answer_pace import AT_ONCE, LARGE, OF_ONE_CALLER, PIECE, AnswerPace
from recall_server.api.state.context import CALLER
from tests.recall_server.api.live import listening


async def nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


class Reader:
    """A caller that reads as fast as it is told to, and what it got."""

    def __init__(self, caller: str = "", *, seconds: float = 0.0, stops: bool = False) -> None:
        self.scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [], CALLER: caller}
        self.seconds, self.stops = seconds, stops
        self.status = 0
        self.pieces: list[bytes] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        if self.stops:
            await asyncio.Event().wait()
        await asyncio.sleep(self.seconds)
        self.pieces.append(message["body"])

    async def ask(self, app: ASGIApp) -> None:
        await app(self.scope, nothing, self.send)


def test_a_large_answer_is_sent_completely_in_pieces() -> None:
    content = bytes(range(256)) * (5 * PIECE // 512)
    for response in (Response(content), StreamingResponse(iter([content[:7], content[7:], b""])), Response(b"")):
        reader = Reader()
        asyncio.run(reader.ask(AnswerPace(response)))
        assert b"".join(reader.pieces) == (b"" if getattr(response, "body", None) == b"" else content)
        assert max(map(len, reader.pieces)) <= PIECE


@pytest.mark.parametrize("response", [Response(b"x" * 8 * PIECE), StreamingResponse(iter([b"x"] * 9))])
def test_an_answer_that_nobody_reads_is_aborted(response: Response) -> None:
    async def scenario() -> None:
        with pytest.raises((ClientDisconnect, ExceptionGroup)):
            await asyncio.wait_for(Reader(stops=True).ask(AnswerPace(response, grace=0.1)), 10)

    asyncio.run(scenario())


def test_a_slow_reader_is_cut_off_and_a_fast_one_is_not() -> None:
    async def scenario() -> None:
        app = AnswerPace(Response(b"x" * 4 * PIECE), grace=0.2)
        with pytest.raises(ClientDisconnect):
            await asyncio.wait_for(Reader(seconds=30).ask(app), 10)
        await asyncio.wait_for(Reader(seconds=0.1).ask(app), 10)

    asyncio.run(scenario())


def test_the_bytes_of_large_answers_in_memory_are_bounded() -> None:
    async def scenario() -> None:
        large = Response(b"", headers={"content-length": str(OF_ONE_CALLER)})
        app = AnswerPace(large)
        stuck = [Reader(caller, stops=True) for caller in ("a", "b")]
        tasks = [asyncio.create_task(reader.ask(app)) for reader in stuck]
        await asyncio.sleep(0)
        assert app.waiting.total() == AT_ONCE
        refused, small = Reader("c"), Reader("c")
        await refused.ask(app)
        assert refused.status == 429
        app.app = Response(b"x")
        await small.ask(app)
        assert small.status == 200
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not app.waiting

    asyncio.run(scenario())


def test_one_caller_gets_at_most_half_and_one_huge_answer_is_always_allowed() -> None:
    async def scenario() -> None:
        app = AnswerPace(Response(b"", headers={"content-length": str(OF_ONE_CALLER - LARGE)}))
        task = asyncio.create_task(Reader("a", stops=True).ask(app))
        await asyncio.sleep(0)
        mine, other = Reader("a"), Reader("b")
        await mine.ask(app)
        await other.ask(app)
        assert (mine.status, other.status) == (429, 200)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        huge = Reader("a")
        await huge.ask(AnswerPace(Response(b"", headers={"content-length": str(2 * AT_ONCE)})))
        assert huge.status == 200

    asyncio.run(scenario())


def test_a_real_connection_that_is_never_read_is_closed() -> None:
    app = AnswerPace(Response(b"x" * 2**24), grace=0.3)
    with listening(app) as address, contextlib.ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(socket.create_connection(address))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        limit = time.monotonic() + 20
        time.sleep(0.2)
        while app.waiting:
            assert time.monotonic() < limit
            time.sleep(0.05)
