"""Runs the application behind a real socket in this process, for tests that an in-process client cannot express."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from recall_server.cli.http_protocol import CarefulH11Protocol
from recall_server.cli.http_server import HttpServer

PATIENCE = 20.0


@contextlib.contextmanager
def listening(app: ASGIApp) -> Iterator[tuple[str, int]]:
    """Yield the address of a uvicorn server for `app` in a thread. `app` must have been started already."""
    config = uvicorn.Config(
        app,
        port=0,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        http=CarefulH11Protocol,
    )
    server = HttpServer(config, on_exit=lambda: None, seconds=PATIENCE)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        limit = time.monotonic() + PATIENCE
        while not server.started:
            assert time.monotonic() < limit
            time.sleep(0.01)
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


def exchange(address: tuple[str, int], data: bytes, *, hang_up: bool = False) -> bytes:
    """Send raw bytes, with `hang_up` close the sending side, and return all bytes until the server closes."""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        with contextlib.suppress(OSError):  # an early answer may close the connection while we still send
            connection.sendall(data)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                received += piece
        return received
