"""Bodies that are too large, too many, too slow, cut off or lying: refused, with nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from recall_server.api.guards.body_limit import AT_ONCE, SMALL, BodyLimits

Message = dict[str, Any]
MAX = 4 * SMALL


async def swallow(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Awaitable[None]]
) -> None:
    """An application that reads the whole body and says so."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})


class Call:
    """One request to an ASGI application, whose body is sent piece by piece."""

    def __init__(self, **headers: str) -> None:
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.scope = {"type": "http", "method": "POST", "path": "/recall", "headers": raw}
        self.pieces: asyncio.Queue[Message] = asyncio.Queue()
        self.status = 0
        self.headers: dict[bytes, bytes] = {}

    def send_piece(self, data: bytes, *, last: bool = False) -> None:
        self.pieces.put_nowait({"type": "http.request", "body": data, "more_body": not last})

    async def answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])

    def start(self, app: BodyLimits) -> asyncio.Task[None]:
        return asyncio.create_task(app(self.scope, self.pieces.get, self.answer))


def test_only_so_many_large_bodies_are_on_their_way_at_a_time() -> None:
    async def scenario() -> None:
        app = BodyLimits(swallow, MAX, 60)
        held = [Call(content_length=str(MAX)) for _ in range(AT_ONCE)]
        tasks = [call.start(app) for call in held]
        await asyncio.sleep(0)
        refused, chunked, small = (
            Call(content_length=str(MAX)),
            Call(transfer_encoding="chunked"),
            Call(content_length="9"),
        )
        await refused.start(app)
        await chunked.start(app)
        assert (refused.status, chunked.status) == (429, 429)
        assert refused.headers[b"retry-after"] == b"2"
        assert refused.headers[b"connection"] == b"close"
        small.send_piece(b"123456789", last=True)
        await small.start(app)
        assert small.status == 200
        held[0].send_piece(b"!", last=True)
        await tasks[0]
        late = Call(content_length=str(MAX))
        late.send_piece(b"!", last=True)
        await late.start(app)
        assert late.status == 200
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        again = Call(content_length=str(MAX))
        again.send_piece(b"!", last=True)
        await again.start(app)
        assert again.status == 200

    asyncio.run(scenario())


def test_a_body_that_dawdles_is_cut_off_and_what_follows_it_is_not() -> None:
    async def scenario() -> None:
        limits = BodyLimits(swallow, MAX, 0.1)
        slow = Call(content_length="1000")
        slow.send_piece(b"x")
        with pytest.raises(Exception, match="408"):
            await asyncio.wait_for(slow.start(limits), 5)

        seen: list[Message] = []

        async def listens(scope: Message, receive: Callable[[], Awaitable[Message]], send: object) -> None:
            seen.extend([await receive(), await receive()])

        patient = Call(content_length="1")
        task = patient.start(BodyLimits(listens, MAX, 0.1))
        patient.send_piece(b"x", last=True)
        await asyncio.sleep(0.3)  # the body is whole: now only the end of the connection is listened for
        patient.pieces.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(task, 5)
        assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]

    asyncio.run(scenario())


@pytest.mark.parametrize("length", ["-1", "1e9", "0x10", "", "٣"])
def test_a_length_that_is_no_number_counts_as_the_largest(length: str) -> None:
    async def scenario() -> None:
        app = BodyLimits(swallow, MAX, 60)
        held = [Call(content_length=str(MAX)) for _ in range(AT_ONCE)]
        tasks = [call.start(app) for call in held]
        await asyncio.sleep(0)
        lying = Call(content_length=length)
        lying.send_piece(b"!", last=True)
        await lying.start(app)
        assert lying.status == (429 if length else 200)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())
