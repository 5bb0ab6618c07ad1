"""Workers on an external Ray cluster: for each, a process of this machine drives one actor.

Everything of Ray is in these processes, so that the server survives the end of the cluster. An actor ends with the
process that drives it, whatever the reason, and gets its tasks and returns its messages through it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import socket
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, final

from recall_server.core.io.deadline import calls_after
from recall_server.errors import Unavailable
from recall_server.jobs.workers.pool import WorkerPool
from recall_server.jobs.workers.ray.actor import TrainingActor, code
from recall_server.jobs.workers.worker import Lost, end_with_parent, send

SECONDS_TO_CONNECT = 5.0
VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


@final
class RayCluster(NamedTuple):
    """An external cluster, HOST:PORT, and what one actor takes of it. `seconds` is the time that it has to be warm."""

    address: str
    cpus: float = 1.0
    gpus: float = 0.0
    seconds: float = 120.0

    @property
    def needs(self) -> str:
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs"


@final
class RayBackend(WorkerPool):
    """As many actors as `workers`, with `threads` each; with 0, as many as their CPUs."""

    def __init__(self, cluster: RayCluster, *, workers: int = 1, threads: int = 0) -> None:
        threads = threads or max(1, int(cluster.cpus))
        super().__init__([partial(drive_actor, cluster=cluster, threads=threads)] * workers)


def drive_actor(connection: Connection, cluster: RayCluster, threads: int) -> None:
    """The main function of a process: pass tasks to one actor and its messages back, until the pipe is closed."""
    end_with_parent()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            ray, actor = _start(connection, cluster, threads)
            while True:
                for reference in actor.train.remote(connection.recv_bytes()):
                    connection.send_bytes(ray.get(reference))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            send(connection, Lost(reason=_reason(error, cluster)))


def _start(connection: Connection, cluster: RayCluster, threads: int) -> tuple[Any, Any]:
    """Ray and a warm actor, which has been announced. Raises errors of Ray; `_reason` makes sentences of them."""
    waiting = [f"nothing at {cluster.address} answers as Ray does; see --ray-address"]

    def end() -> None:
        send(connection, Lost(reason=f"{waiting[0]} (waited {cluster.seconds:g} seconds)"))
        os._exit(1)

    with calls_after(cluster.seconds, end):  # some calls of Ray wait for ever
        host, _, port = cluster.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
        except OSError as error:
            fault = f"nothing answers at {cluster.address} ({error.strerror or error}); see --ray-address"
            raise Unavailable(fault, retry_after=1) from error
        ray = importlib.import_module("ray")
        ray.init(cluster.address, logging_level="ERROR", log_to_driver=False, configure_logging=False)
        waiting[0] = _no_room(cluster, ray.nodes())
        options = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_restarts": 0, "max_task_retries": 0}
        actor = ray.remote(TrainingActor).options(**options).remote("cuda" if cluster.gpus else "cpu", threads, code())
        ready = ray.get(actor.ready.remote())
    connection.send_bytes(ready)
    return ray, actor


def _no_room(cluster: RayCluster, nodes: list[dict[str, Any]]) -> str:
    """The sentence for an actor that is not placed."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    there = "; ".join(f"{each.get('CPU', 0):g} CPUs and {each.get('GPU', 0):g} GPUs" for each in alive)
    return (
        f"no node of the Ray cluster has {cluster.needs} free, which a worker takes; its nodes have {there}: add a "
        "node, or lower --ray-workers, --ray-cpus or --ray-gpus"
    )


def _reason(error: Exception, cluster: RayCluster) -> str:
    """A sentence for what Ray raised, which says what would be right."""
    text, kind = str(error), type(error).__name__
    if isinstance(error, Unavailable):
        return text
    if "Version mismatch" in text and len(versions := VERSIONS.findall(text)) == 2:
        (theirs, their_python), (ours, our_python) = versions
        return (
            f"the cluster at {cluster.address} has Ray {theirs} and Python {their_python}, and the server Ray {ours} "
            f"and Python {our_python}: install the same versions"
        )
    if "Failed to connect" in text or "Authentication" in kind:
        return (
            f"{cluster.address} does not let this server in: it is no Ray cluster (see --ray-address), or one that "
            "wants another token (set RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN)"
        )
    if "No node info found" in text:
        start = f"ray start --address={cluster.address} --num-cpus=0"
        return f"this machine is no node of the cluster at {cluster.address}: run `{start}` beside the server"
    if missing := re.search(r"ModuleNotFoundError: (.*)|ImportError: (.*)", text):
        return f"a node cannot import memory-recall ({missing.group()}): install the server's packages on every node"
    return f"{kind}: {text.strip().splitlines()[-1] if text.strip() else 'no reason is given'}"
