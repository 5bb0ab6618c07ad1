"""HTTP/1.1 as uvicorn speaks it, with a clean end for requests that turn out to be no HTTP, even half way.

uvicorn refuses such a request with a 400 in plain text whatever has been sent before, and its application does not hear
of it. The state machine of h11 then raises in a callback of the event loop or in the application.
"""

from __future__ import annotations

from typing import Final, final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from recall_server.api.http.problems import MEDIA_TYPE, STATUSES, Problem

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
class CarefulH11Protocol(H11Protocol):
    """Sends a 400 only where an answer can begin, and ends the request that was being answered."""

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
