"""`recall-server serve` in its own process, for benchmarks of a real server."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx2

ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts"
PATIENCE = 120.0


@dataclass(frozen=True)
class RunningServer:
    """The address and the process of a running server."""

    host: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def resident_bytes(self) -> int:
        """Resident memory of the web process, without its workers (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def processor_seconds(server: int) -> tuple[float, float]:
    """Time that processors spent on the event loop, and on the whole web process, by its number (Linux)."""
    spent = {}
    for task in Path(f"/proc/{server}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has just ended
            spent[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return spent[str(server)], sum(spent.values())


class BackgroundThreads:
    """Runs functions in threads while the context lasts. Each of them returns soon after `stopped` is set."""

    def __init__(self, *functions: Callable[[], object]) -> None:
        self.stopped = threading.Event()
        self._threads = [threading.Thread(target=function, daemon=True) for function in functions]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE)


@contextlib.contextmanager
def running_server(
    *flags: str, artifacts: Path = ARTIFACTS, environment: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """A ready server on a free port with its own state folder; it is stopped when the context ends.

    It has this process's environment with the variables in `environment`, and no setting but the flags.
    """
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log"
        command = [sys.executable, "-m", "recall_server", "serve", "--port=0", "--log-level=info", *flags]
        told = {name: value for name, value in os.environ.items() if not name.startswith("RECALL_")}
        told |= {"RECALL_ARTIFACTS": str(artifacts), "RECALL_STATE": str(Path(folder) / "state"), **(environment or {})}
        with log_path.open("wb") as log:
            process = subprocess.Popen(command, env=told, stdout=log, stderr=log)
        try:
            server = RunningServer("127.0.0.1", _port(process, log_path), process)
            _wait_until_ready(server)
            yield server
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found.group(1))
        time.sleep(0.05)
    raise RuntimeError(f"the server does not start:\n{log.read_text()}")


def _wait_until_ready(server: RunningServer) -> None:
    limit = time.monotonic() + PATIENCE
    while (answer := httpx2.get(f"{server.url}/health/ready")).status_code != 200:
        if time.monotonic() > limit or server.process.poll() is not None:
            raise RuntimeError(f"the server does not become ready: {answer.text}")
        time.sleep(0.1)
