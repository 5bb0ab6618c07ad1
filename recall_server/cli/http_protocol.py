"""HTTP/1.1 as uvicorn speaks it, with a clean end for requests that turn out to be no HTTP, even half way.

The head of an answer is sent together with its body: each call that sends is a moment in which a thread that computes
may take the interpreter's lock, and the event loop then waits for it.

Requests whose callers leave together end one after the other: each takes a millisecond or two, for which nobody waits.

uvicorn refuses such a request with a 400 in plain text whatever has been sent before, and its application does not hear
of it. The state machine of h11 then raises in a callback of the event loop or in the application.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final, cast, final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from recall_server.api.http.problems import MEDIA_TYPE, STATUSES, Problem
from recall_server.api.http.turns import one_in_a_turn

HEAD: Final = b"HTTP/1.1 "  # how the head of an answer begins
NO_HTTP: Final = (
    Problem(
        type=STATUSES[400].uri,
        title=STATUSES[400].title,
        status=400,
        detail="this is not a request of HTTP/1.1",
        instance="",
    )
    .model_dump_json(exclude_none=True)
    .encode()
)
REFUSAL: Final = (
    f"HTTP/1.1 400 Bad Request\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(NO_HTTP)}\r\n"
    "Connection: close\r\n\r\n"
).encode() + NO_HTTP


@final
class HeadWithBody:
    """A transport that keeps the head of an answer for what follows it in the same turn of the event loop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._head = transport, b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the data after what was kept."""
        kept, self._head = self._head, b""
        if data.startswith(HEAD) and not kept:
            self._head = data
            asyncio.get_running_loop().call_soon(self.flush)
        elif kept or data:
            self._transport.write(kept + data)

    def close(self) -> None:
        """Send what was kept, and close the connection."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what was kept."""
        if self._head:
            self.write(b"")


@final
class CarefulH11Protocol(H11Protocol):
    """Sends a 400 only where an answer can begin, and ends the request that was being answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        super().connection_made(cast(asyncio.Transport, HeadWithBody(transport)))

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection, and soon the request that was being answered."""
        end = partial(super().connection_lost, exc)
        if self.cycle is None or self.cycle.response_complete:
            return end()
        self.cycle.disconnected = True  # its further messages are dropped
        one_in_a_turn(end)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(REFUSAL)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # its further messages are dropped
            self.cycle.message_event.set()
            self.flow.resume_writing()
        self.transport.close()

    def shutdown(self) -> None:
        """Close the connection once its request has been answered."""
        if not self.transport.is_closing():
            super().shutdown()
