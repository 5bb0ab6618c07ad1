"""How the server's process ends, and that a burst of connections is accepted to the last."""

from __future__ import annotations

import contextlib
import gc
import socket
import subprocess
import sys
from pathlib import Path

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
import gc, pathlib, sys
from recall_server.cli import commands
from recall_server.config.settings import Settings

commands.HttpServer.run = lambda server: print(gc.get_freeze_count() > 10 * len(gc.get_objects()))
folder = pathlib.Path(sys.argv[1])
commands.serve(Settings(artifacts=folder, state=folder, port=0))
"""


def test_a_thread_that_computes_to_the_end_does_not_abort_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", COMPUTES_TO_THE_END], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "at exit", "")


def test_a_burst_of_connections_is_accepted_and_answered() -> None:
    frozen = gc.get_freeze_count()
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with listening(PlainTextResponse("here")) as address, contextlib.ExitStack() as stack:
        burst = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(300)]
        for connection in burst:
            connection.sendall(request)
        assert {connection.recv(12) for connection in burst} == {b"HTTP/1.1 200"}
    assert gc.get_freeze_count() <= frozen  # a server in a process of others leaves their objects alone


def test_a_collection_of_garbage_does_not_look_at_what_was_made_before_the_server_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COLLECTS, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout == "True\n"
