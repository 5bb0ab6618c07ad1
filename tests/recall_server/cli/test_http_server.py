"""How the server's process ends, and that a burst of connections is accepted to the last."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys

import pytest
from starlette.responses import PlainTextResponse

from tests.recall_server.api.live import listening

pytestmark = pytest.mark.process

COMPUTES_TO_THE_END = """
import atexit, threading, torch
from recall_server.cli.http_server import end_process

def compute():
    values = torch.rand(64, 64)
    while True:
        values = (values @ values).softmax(1)
        computing.set()

computing = threading.Event()
atexit.register(print, "at exit", end="")
for _ in range(3):
    threading.Thread(target=compute, daemon=True).start()
computing.wait()
end_process(3)
"""
COLLECTS = """
import asyncio, gc, json, uvicorn
from recall_server.cli.http_server import HttpServer

async def app(scope, receive, send):
    pass

async def started():
    before = len(gc.get_objects())
    server = HttpServer(uvicorn.Config(app, port=0, lifespan="off", log_level="error"), lambda: None, 60)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    print(json.dumps([before, len(gc.get_objects())]))

asyncio.run(started())
"""


def test_a_thread_that_computes_to_the_end_does_not_abort_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", COMPUTES_TO_THE_END], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "at exit", "")


def test_a_burst_of_connections_is_accepted_and_answered() -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with listening(PlainTextResponse("here")) as address, contextlib.ExitStack() as stack:
        burst = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(300)]
        for connection in burst:
            connection.sendall(request)
        assert {connection.recv(12) for connection in burst} == {b"HTTP/1.1 200"}


def test_a_collection_of_garbage_does_not_look_at_what_was_made_before_the_server_listens() -> None:
    ended = subprocess.run([sys.executable, "-c", COLLECTS], capture_output=True, text=True, timeout=120, check=True)
    before, while_serving = json.loads(ended.stdout)
    assert before > 1000
    assert while_serving < before / 2
