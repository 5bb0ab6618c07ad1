"""A Ray cluster on this machine: a head without CPUs, and nodes with two. Its nodes can be killed and started.

Each node is `ray start --block` in a process group of its own, since `ray stop` would end all clusters of the machine.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.killable_server import free_port
from benchmarks.process_tree import bytes_of, descendants
from benchmarks.waiting import PATIENCE, until

RAY = str(Path(sys.executable).with_name("ray"))
OBJECT_STORE_BYTES = 80_000_000  # of each node; Ray takes no less than 75 MB
SMALL = [f"--object-store-memory={OBJECT_STORE_BYTES}", "--include-log-monitor=false", "--disable-usage-stats"]
STARTS = 3
# With the niceness of 15 that Ray gives them, workers starve on a busy machine. The rest lets the head notice a dead
# node within seconds.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0",
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "10",
}


def exit_on_sigterm() -> None:
    """Let SIGTERM raise SystemExit in this process, so that it ends its nodes: they are in no process group of its own.

    Does nothing where SIGTERM is handled already, and outside the main thread, where Python allows no handler.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


class Node:
    """One `ray start`, and the processes that it started."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.log = folder / f"{time.monotonic_ns()}.log"
        command = [RAY, "start", "--block", *SMALL, *options]
        with self.log.open("wb") as log:
            told = os.environ | ENVIRONMENT | environment
            self.process = subprocess.Popen(
                command, env=told, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def comes_up(self, head: Node) -> bool:
        """Wait until it runs, or it or its head has ended; returns whether it runs."""
        until(lambda: self._runs() or self.has_ended or head.has_ended, "the node of Ray runs")
        return not self.has_ended and not head.has_ended

    def actors(self) -> list[int]:
        """The processes of the actors of training on this node."""
        family = descendants(self.process.pid)
        return [each for each in family if b"TrainingActor" in bytes_of(Path(f"/proc/{each}/cmdline"))]

    def kill(self) -> None:
        """End all processes at once, as when a machine loses power."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def _runs(self) -> bool:
        return "--block" in self.log.read_text()  # the last that it says


def port_of_a_head() -> int:
    """A free port that the kernel gives to no outgoing connection.

    While the head is gone, others try to connect to its port again and again. From that very port they would succeed,
    and the head could not listen there any more.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


class LocalCluster:
    """A head and its nodes."""

    def __init__(self, nodes: int = 2, **environment: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # the path of a socket is short
        self.port, self.environment = port_of_a_head(), environment
        self.nodes: list[Node] = []
        self.head: Node | None = None
        exit_on_sigterm()
        try:
            self.start(nodes)
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, nodes: int = 2) -> None:
        """Start the head, and then its nodes. After `kill`, they are a new cluster at the same address.

        Some heads end soon after their start, so all begins anew then.
        """
        for left in reversed(range(STARTS)):
            try:
                return self._start(nodes)
            except RuntimeError:
                self.kill()
                if not left:
                    raise

    def _start(self, nodes: int) -> None:
        ports = [f"--port={self.port}", f"--ray-client-server-port={free_port()}", f"--dashboard-port={free_port()}"]
        folder = f"--temp-dir={self.folder / 'ray'}"
        self.head = self._started("--head", "--num-cpus=0", "--include-dashboard=false", "--no-monitor", folder, *ports)
        for _ in range(nodes):  # one after the other: two that begin together take the same socket
            self.add()

    def add(self, cpus: int = 2, **environment: str) -> Node:
        """Start another node."""
        options = f"--address={self.address}", f"--num-cpus={cpus}"
        self.nodes.append(self._started(*options, **environment))
        return self.nodes[-1]

    def actors(self) -> list[int]:
        """The processes of all actors of training."""
        return [actor for node in self.nodes for actor in node.actors()]

    def remove(self, node: Node) -> None:
        """Kill a node."""
        node.kill()
        self.nodes.remove(node)

    def kill(self) -> None:
        """Kill every node."""
        for node in filter(None, (*self.nodes, self.head)):
            node.kill()
        self.nodes = []

    def _started(self, *options: str, **environment: str) -> Node:
        """A node that runs. Ray gives up after 30 seconds, which a busy machine may take, so it has several tries."""
        for _ in range(STARTS):
            node = Node(self.folder, *options, **(self.environment | environment))
            head = node if "--head" in options or self.head is None else self.head
            with contextlib.ExitStack() as unless_it_runs:
                unless_it_runs.callback(node.kill)
                if node.comes_up(head):
                    unless_it_runs.pop_all()
                    return node
        raise RuntimeError(f"a node of Ray does not start:\n{node.log.read_text()}\nits head:\n{head.log.read_text()}")

    def close(self) -> None:
        """Kill every node, and delete all files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
