"""A server that can be killed with SIGKILL and restarted on the same port, with a state folder that may be shared."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.process_tree import children, descendants
from benchmarks.waiting import PATIENCE

LEASE_SECONDS = 2.0


class KillableServer:
    """One `recall-server serve` with one training process, which can be killed and restarted on its port."""

    def __init__(self, folder: Path, name: str, *flags: str, **environment: str) -> None:
        self._folder, self._log = folder, folder / f"{name}.log"
        self._flags, self._environment = flags, environment
        self.url = f"http://127.0.0.1:{free_port()}"
        self.client = httpx2.Client(base_url=self.url, timeout=PATIENCE)
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "recall_server", "serve", f"--port={self.url.rpartition(':')[2]}"]
        command += self._flags
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RECALL_")}
        environment |= self._environment | {
            "RECALL_ARTIFACTS": str(self._folder / "artifacts"),
            "RECALL_STATE": str(self._folder / "state"),
            "RECALL_DEVICE": "cpu",
            "RECALL_WORKER_THREADS": "1",
            "RECALL_LEASE_SECONDS": f"{LEASE_SECONDS}",
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, cwd=self._folder, stdout=log, stderr=log)

    def answers(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return self.client.get("/health/live").status_code == 200
        return False

    def is_ready(self) -> bool:
        """Whether it is warm, so that the next training starts at once."""
        with contextlib.suppress(httpx2.HTTPError):
            return self.client.get("/health/ready").status_code == 200
        return False

    def record(self, job: str) -> dict[str, Any]:
        """The record of a training; empty if the server does not answer or its database is away."""
        with contextlib.suppress(httpx2.HTTPError):
            answer = self.client.get(job)
            if answer.status_code == 200:
                return dict(answer.json())
            return {} if answer.status_code == 503 else {"status": f"lost: {answer.status_code}"}
        return {}

    def family(self) -> list[int]:
        """All descendants of the server's process."""
        return descendants(self.process.pid)

    def workers(self) -> list[int]:
        """The training processes: the grandchildren of the server's process."""
        return [each for child in children(self.process.pid) for each in descendants(child)]

    def kill(self) -> list[int]:
        """Send SIGKILL to the server; returns the remaining processes, which must end by themselves."""
        left = self.family()
        self.process.kill()
        self.process.wait(PATIENCE)
        return left

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def log(self) -> str:
        return self._log.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
