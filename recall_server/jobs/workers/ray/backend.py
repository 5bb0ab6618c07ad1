"""Workers on an external Ray cluster: for each, a process of this machine drives one actor.

Everything of Ray is in these processes, so that the server survives the end of the cluster. An actor ends with the
process that drives it, whatever the reason, and gets its tasks and returns its messages through it.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, final

from recall_server.core.io.deadline import calls_after
from recall_server.core.ray_cluster import RayAddress, rooms
from recall_server.jobs.workers.pool import WorkerPool
from recall_server.jobs.workers.ray.actor import TrainingActor, code
from recall_server.jobs.workers.worker import Lost, end_with_parent, send


@final
class RayCluster(NamedTuple):
    """An external cluster, HOST:PORT, and what one actor takes of it. `seconds` is the time that it has to be warm."""

    address: str
    cpus: float = 1.0
    gpus: float = 0.0
    seconds: float = 120.0

    @property
    def place(self) -> RayAddress:
        return RayAddress(self.address, "--ray-address")

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
            send(connection, Lost(reason=cluster.place.reason(error)))


def _start(connection: Connection, cluster: RayCluster, threads: int) -> tuple[Any, Any]:
    """Ray and a warm actor, which has been announced. Raises the errors of `RayAddress.connect`."""
    waiting = [cluster.place.silent]

    def end() -> None:
        send(connection, Lost(reason=f"{waiting[0]} (waited {cluster.seconds:g} seconds)"))
        os._exit(1)

    with calls_after(cluster.seconds, end):  # some calls of Ray wait for ever
        ray = cluster.place.connect()
        waiting[0] = _no_room(cluster, ray.nodes())
        options = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_restarts": 0, "max_task_retries": 0}
        actor = ray.remote(TrainingActor).options(**options).remote("cuda" if cluster.gpus else "cpu", threads, code())
        ready = ray.get(actor.ready.remote())
    connection.send_bytes(ready)
    return ray, actor


def _no_room(cluster: RayCluster, nodes: list[dict[str, Any]]) -> str:
    """The sentence for an actor that is not placed."""
    return (
        f"no node of the Ray cluster has {cluster.needs} free, which a worker takes; its nodes have {rooms(nodes)}: "
        "add a node, or lower --ray-workers, --ray-cpus or --ray-gpus"
    )
