"""What is written to a connection, and in how many pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from recall_server.cli.http_protocol import HeadWithBody

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Pipe:
    """A transport that keeps what is written to it, piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def close(self) -> None:
        self.pieces.append(b"closed")

    def is_closing(self) -> bool:
        return False


def written(use: Callable[[Any], None]) -> tuple[list[bytes], list[bytes]]:
    """What is written at once, and in all after the turn of the event loop."""

    async def scenario() -> tuple[list[bytes], list[bytes]]:
        pipe = Pipe()
        use(HeadWithBody(cast(asyncio.Transport, pipe)))
        at_once = list(pipe.pieces)
        await asyncio.sleep(0)
        return at_once, pipe.pieces

    return asyncio.run(scenario())


def test_a_head_and_its_body_are_one_piece() -> None:
    def answer(transport: Any) -> None:
        for piece in (HEAD, b"body", b"", b"more", b""):
            transport.write(piece)

    assert written(answer) == ([HEAD + b"body", b"more"], [HEAD + b"body", b"more"])


def test_a_head_waits_for_its_body_no_longer_than_a_turn() -> None:
    assert written(lambda transport: transport.write(HEAD)) == ([], [HEAD])


def test_nothing_is_lost_when_the_connection_is_closed() -> None:
    def answer(transport: Any) -> None:
        transport.write(HEAD)
        assert not transport.is_closing()
        transport.close()

    assert written(answer) == ([HEAD, b"closed"], [HEAD, b"closed"])
