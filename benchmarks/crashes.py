"""Two servers on one job table are killed with SIGKILL repeatedly: does every accepted training end exactly once?

    python -m benchmarks.crashes [--quick] [--workers ray] [--database postgresql] [--rounds 100] [--minutes M]

Each round requests trainings over HTTP, kills something while they run, restarts what is gone, and waits until all
trainings have ended. Killed are a training process, a server, or every process, as in a power cut; on a Ray cluster of
two nodes also an actor and the raylet of a node, and on PostgreSQL its first process. At the end, the state folder has
to have exactly one complete classifier for each successful training, and nothing else. Once all servers have stopped,
no process, actor, shared memory or temporary file may be left. Linux only. --quick: a round of each. The last line is
JSON.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.command import command_parser
from benchmarks.crash_audit import audit, processes_in, shared_memory, still_running
from benchmarks.crash_victims import BLOWS, World, blows, two_servers
from benchmarks.killable_server import LEASE_SECONDS, KillableServer
from benchmarks.waiting import PATIENCE, until

LABELS = [f"{digit}" for digit in range(10)]
JOBS_PER_ROUND = 4


@dataclass
class Findings:
    """The results of the rounds."""

    kills: Counter[str] = field(default_factory=Counter)
    accepted: list[str] = field(default_factory=list)
    in_training: int = 0  # rounds in which a training was running when something was killed
    stuck: list[str] = field(default_factory=list)
    orphans: int = 0
    recovery: list[float] = field(default_factory=list)


def play(world: World, victim: str, chance: random.Random, findings: Findings) -> None:
    """One round."""
    servers = world.servers
    until(lambda: any(server.is_ready() for server in servers), "a server is ready")
    alive = world.alive
    mine = [accepted(chance.choice(alive), seed=len(findings.accepted) + index) for index in range(JOBS_PER_ROUND)]
    findings.accepted += mine
    until(lambda: any(status(alive, job) != "queued" for job in mine), "a training has begun")
    time.sleep(chance.uniform(0.0, 1.0))
    findings.in_training += any(status(alive, job) == "running" for job in mine)
    findings.kills[victim] += 1
    left = BLOWS[victim](world, chance)
    world.restart()
    began = time.monotonic()
    findings.orphans += len(still_running(left))
    try:
        until(lambda: any(server.answers() for server in servers), "a server answers")
        until(lambda: all(status(servers, job) in ("succeeded", "failed") for job in mine), "all trainings have ended")
    except TimeoutError:
        findings.stuck += [job for job in mine if status(servers, job) not in ("succeeded", "failed")]
    findings.recovery.append(time.monotonic() - began)


def accepted(server: KillableServer, seed: int) -> str:
    """The address of a training that the server has accepted. While its database is away, it is asked again."""
    limit = time.monotonic() + PATIENCE
    while (answer := server.client.post("/classifier", json={"labels": LABELS, "seed": seed})).status_code == 503:
        if time.monotonic() > limit:
            break
        time.sleep(float(answer.headers["Retry-After"]))
    if answer.status_code != 202:
        raise RuntimeError(f"a training was not accepted: {answer.status_code} {answer.text}")
    return str(answer.headers["Location"])


def status(servers: list[KillableServer], job: str) -> str:
    """The status of a training from the first server that answers; empty if none does."""
    return next((str(found["status"]) for server in servers if (found := server.record(job))), "")


def end(world: World, findings: Findings) -> dict[str, Any]:
    """Stop everything in order, and look at what is left."""
    until(lambda: all(server.is_ready() for server in world.servers), "both servers are ready")
    codes = [server.terminate() for server in world.servers]
    world.servers[0].start()  # its start removes leftover files
    until(world.servers[0].is_ready, "the server is ready again")
    figures = audit(world.servers[0], world.state, findings.accepted, LABELS)
    codes.append(world.servers[0].terminate())
    return {
        **figures,
        "orphans": findings.orphans,
        "actors_left": len(still_running(world.actors())),
        "files_left": sorted(path.name for path in world.temporary.iterdir()),
        "exit_codes_of_sigterm": codes,
    }


def run(
    rounds: int, seed: int = 0, minutes: float = math.inf, workers: str = "1", database: str = ""
) -> dict[str, Any]:
    """The figures of `rounds` rounds, or of those that start within `minutes` minutes."""
    chance, findings, began, before = random.Random(seed), Findings(), time.monotonic(), shared_memory()
    with two_servers(workers, database) as world:
        victims, folders = blows(world), world.folders
        for index in range(rounds or len(victims)):
            if time.monotonic() - began > 60 * minutes:
                break
            victim = victims[index % len(victims)]
            play(world, victim, chance, findings)
            seconds = findings.recovery[-1]
            print(f"round {index + 1:3}: {victim:10} all ended {seconds:5.1f} s after the kill", flush=True)
        figures = end(world, findings)
    return {
        "workers": workers,
        "database": database or "sqlite",
        "rounds": len(findings.recovery),
        "kills": dict(findings.kills),
        "kills_in_training": findings.in_training,
        "accepted": len(findings.accepted),
        "stuck": len(findings.stuck),
        **figures,
        "processes_left": len(still_running(processes_in(*folders))),
        "shared_memory_left": sorted(shared_memory() - before),
        "recovery_seconds_median": round(statistics.median(findings.recovery), 2),
        "recovery_seconds_max": round(max(findings.recovery), 2),
        "lease_seconds": LEASE_SECONDS,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = command_parser(__doc__, "seed", "quick")
    parser.add_argument("--workers", choices=("1", "ray"), default="1", help="ray: on a Ray cluster of this machine")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no round after this time")
    options = parser.parse_args()
    rounds = 0 if options.quick else options.rounds
    print(json.dumps(run(rounds, options.seed, options.minutes, options.workers, options.database)))


if __name__ == "__main__":
    main()
