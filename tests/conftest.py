"""The plugins of the suite, one thread for each process, and `serve`, which starts a real server.

The tensors of the tests are tiny: threads that wait for each other take longer than one thread alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
import torch

from recall_server.core.encoders import onnx_session, query_encoder

PATIENCE = 180.0  # seconds until the worker of a real server must be warm

pytest_plugins = tuple(
    f"tests.suite.{name}" for name in ("garbage", "postgresql", "processes", "ray_cluster", "scheduling", "skips")
)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
for name in onnx_session.NO_TELEMETRY:  # also where tests import onnxruntime themselves
    os.environ.setdefault(name, "1")
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _trusted_encoders() -> Iterator[None]:
    """The encoders of these tests take little, and a trial of each would start a process. Real servers try theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query_encoder, "try_encoder", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """serve(folder) starts a server with the bundles in `folder`, and returns its address when it is ready."""
    with ExitStack() as running:
        yield lambda folder: running.enter_context(_running_server(folder, tmp_path_factory.mktemp("server")))


@contextmanager
def _running_server(artifacts: Path, folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "recall_server", "serve", "--port", str(port)]
    settings = {"RECALL_ARTIFACTS": str(artifacts), "RECALL_STATE": str(folder / "state"), "RECALL_DEVICE": "cpu"}
    settings |= {"RECALL_DRAIN_SECONDS": "0"}  # nobody waits for a training that is still running at the end
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log)
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{address}/health/ready").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"the server did not become ready:\n{log.read_text()}")
