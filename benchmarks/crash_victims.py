"""Two servers on one job table, with what they depend on: a Ray cluster or a PostgreSQL server. All can be killed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.killable_server import KillableServer
from benchmarks.postgres_server import PostgresServer
from benchmarks.process_tree import bytes_of, descendants
from benchmarks.ray_cluster import ENVIRONMENT, LocalCluster
from benchmarks.running_server import ARTIFACTS
from benchmarks.waiting import PATIENCE


@dataclass(frozen=True)
class World:
    """The servers, their folder, and what they depend on, if anything."""

    servers: list[KillableServer]
    folder: Path
    cluster: LocalCluster | None
    database: PostgresServer | None

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def temporary(self) -> Path:
        """The temporary folder of all processes."""
        return self.folder / "tmp"

    @property
    def alive(self) -> list[KillableServer]:
        return [server for server in self.servers if server.answers()]

    @property
    def folders(self) -> list[Path]:
        """The working directories of all processes are in these."""
        return [self.folder, *(each.folder for each in (self.cluster, self.database) if each)]

    def actors(self) -> list[int]:
        return self.cluster.actors() if self.cluster else []

    def restart(self) -> None:
        """Start the servers that have ended."""
        for server in self.servers:
            if server.process.poll() is not None:
                server.start()


Blow = Callable[[World, random.Random], list[int]]  # kills; returns the processes that must end by themselves


def kill_worker(world: World, chance: random.Random) -> list[int]:
    """Kill the training processes of a server; with Ray, the processes that drive its actors."""
    for worker in chance.choice(world.alive).workers():
        _kill(worker)
    return []


def kill_server(world: World, chance: random.Random) -> list[int]:
    """Kill a server alone."""
    return chance.choice(world.alive).kill()


def kill_actor(world: World, chance: random.Random) -> list[int]:
    """Kill the process of an actor on its node."""
    if actors := world.actors():
        _kill(chance.choice(actors))
    return []


def kill_node(world: World, chance: random.Random) -> list[int]:
    """Kill the raylet of a node alone, then start another node."""
    assert world.cluster is not None
    node = chance.choice(world.cluster.nodes)
    family = [node.process.pid, *descendants(node.process.pid)]
    for process in family:
        if bytes_of(Path(f"/proc/{process}/cmdline")).split(b"\0")[0].endswith(b"/raylet"):
            _kill(process)
    node.process.wait(PATIENCE)
    world.cluster.nodes.remove(node)
    world.cluster.add()
    return family


def kill_database(world: World, _: random.Random) -> list[int]:
    """Kill the first process of PostgreSQL alone, then start it again."""
    assert world.database is not None
    world.database.stop(signal.SIGKILL)
    world.database.start()
    return []


def kill_everything(world: World, chance: random.Random) -> list[int]:
    """Kill every process, as in a power cut, then start what the servers depend on."""
    family = [process for server in world.servers for process in [server.process.pid, *server.workers()]]
    chance.shuffle(family)
    left = [process for server in world.servers for process in server.family()]
    for process in family:
        _kill(process)
    for server in world.servers:
        server.process.wait(PATIENCE)
    if world.database:
        kill_database(world, chance)
    if world.cluster:
        world.cluster.kill()
        world.cluster.start()
    return left


BLOWS: dict[str, Blow] = {
    "worker": kill_worker,
    "server": kill_server,
    "actor": kill_actor,
    "node": kill_node,
    "database": kill_database,
    "everything": kill_everything,
}


def blows(world: World) -> list[str]:
    """The names of the blows that this world takes in turn."""
    local = [] if world.cluster else ["worker", "server"]
    cluster = ["actor", "node"] if world.cluster else []
    database = ["database"] if world.database else []
    return ["worker", "server", *local, *cluster, *database, "everything"]


@contextlib.contextmanager
def two_servers(workers: str, database: str) -> Iterator[World]:
    """Two servers on one state folder, with the smallest bundle. Everything is killed at the end."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "artifacts" / "bundles").mkdir(parents=True)
        (folder / "tmp").mkdir()
        shutil.copy(ARTIFACTS / "bundles" / "digits.safetensors", folder / "artifacts" / "bundles")
        flags, cluster, postgres = [], None, None
        if workers == "ray":
            cluster = LocalCluster(TMPDIR=str(folder / "tmp"))
            stack.callback(cluster.close)
            flags += ["--workers=ray", f"--ray-address={cluster.address}"]
        if database == "postgresql":
            postgres = PostgresServer.started()
            stack.callback(postgres.close)
            flags += [f"--database={postgres.url}?connect_timeout=3"]
        environment = {**ENVIRONMENT, "TMPDIR": str(folder / "tmp")}
        servers = [KillableServer(folder, name, *flags, **environment) for name in ("one", "other")]
        world = World(servers, folder, cluster, postgres)
        stack.callback(_kill_all, world)
        yield world


def _kill_all(world: World) -> None:
    for server in world.servers:
        if server.process.poll() is None:
            server.kill()


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
