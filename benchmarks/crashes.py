"""Two servers on one job table are killed with SIGKILL repeatedly: does every accepted training end exactly once?

    python -m benchmarks.crashes [--quick] [--rounds 100] [--minutes M] [--seed 0]

Each round requests trainings over HTTP, kills something while they run (a training process, a server, or every process,
as in a power cut), restarts what is gone, and waits until all trainings have ended. At the end, the state folder must
have exactly one complete classifier for each successful training, and nothing else. Linux only. --quick: five rounds.
The last line is JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2

from benchmarks.command import command_parser
from benchmarks.killable_server import LEASE_SECONDS, PATIENCE, KillableServer
from benchmarks.process_tree import bytes_of, is_running
from benchmarks.running_server import ARTIFACTS
from recall_server.core.classifier.fresh_classifier import FreshClassifier

Victim = Literal["worker", "server", "everything"]
VICTIMS: tuple[Victim, ...] = ("worker", "server", "worker", "server", "everything")
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


def play(servers: list[KillableServer], victim: Victim, chance: random.Random, findings: Findings) -> None:
    """One round."""
    until(lambda: any(server.is_ready() for server in servers), "a server is ready")
    alive = [server for server in servers if server.answers()]
    mine = [accepted(chance.choice(alive), seed=len(findings.accepted) + index) for index in range(JOBS_PER_ROUND)]
    findings.accepted += mine
    until(lambda: any(status(alive, job) != "queued" for job in mine), "a training has begun")
    time.sleep(chance.uniform(0.0, 1.0))
    findings.in_training += any(status(alive, job) == "running" for job in mine)
    findings.kills[victim] += 1
    left = strike(servers, alive, victim, chance)
    for server in servers:
        if server.process.poll() is not None:
            server.start()
    began = time.monotonic()
    findings.orphans += orphans(left)
    try:
        until(lambda: any(server.answers() for server in servers), "a server answers")
        until(lambda: all(status(servers, job) in ("succeeded", "failed") for job in mine), "all trainings have ended")
    except TimeoutError:
        findings.stuck += [job for job in mine if status(servers, job) not in ("succeeded", "failed")]
    findings.recovery.append(time.monotonic() - began)


def strike(
    servers: list[KillableServer], alive: list[KillableServer], victim: Victim, chance: random.Random
) -> list[int]:
    """Kill the victim; returns the processes that must end by themselves."""
    if victim == "everything":
        family = [process for server in servers for process in [server.process.pid, *server.workers()]]
        chance.shuffle(family)
        left = [process for server in servers for process in server.family()]
        for process in family:
            kill(process)
        for server in servers:
            server.process.wait(PATIENCE)
        return left
    server = chance.choice(alive)
    if victim == "server":
        return server.kill()
    for worker in server.workers():
        kill(worker)
    return []


def kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def accepted(server: KillableServer, seed: int) -> str:
    """The address of a training that the server has accepted."""
    answer = server.client.post("/classifier", json={"labels": LABELS, "seed": seed})
    if answer.status_code != 202:
        raise RuntimeError(f"a training was not accepted: {answer.status_code} {answer.text}")
    return str(answer.headers["Location"])


def record(servers: list[KillableServer], job: str) -> dict[str, Any]:
    """The record of a training from any server that answers; empty if none does."""
    for server in servers:
        with contextlib.suppress(httpx2.HTTPError):
            answer = server.client.get(job)
            return dict(answer.json()) if answer.status_code == 200 else {"status": f"lost: {answer.status_code}"}
    return {}


def status(servers: list[KillableServer], job: str) -> str:
    return str(record(servers, job).get("status"))


def orphans(processes: list[int]) -> int:
    """How many of these processes still run after ten seconds."""
    limit = time.monotonic() + 10
    while (left := [process for process in processes if is_running(process)]) and time.monotonic() < limit:
        time.sleep(0.05)
    return len(left)


def audit(server: KillableServer, state: Path, findings: Findings) -> dict[str, Any]:
    """Check the final state of every accepted training, and every file in the state folder."""
    ended: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    twice, damaged, expected = 0, 0, set()
    for job in findings.accepted:
        final = record([server], job)
        ended[str(final["status"])] += 1
        told = [event["status"] for event in _events(server, job) if event["kind"] == "status"]
        twice += sum(each in ("succeeded", "failed", "cancelled") for each in told) != 1
        if final["status"] == "failed":
            reasons[str(final["error"]["type"])] += 1
        if final["status"] == "succeeded":
            number = "" if final["attempt"] == 1 else f".{final['attempt']}"
            path = state / "classifiers" / f"{final['id']}{number}.safetensors"
            expected.add(path)
            damaged += not _is_whole(path, final["file"]["sha256"])
    return {
        "ended": dict(ended),
        "failed_because": dict(reasons),
        "ended_more_or_less_than_once": twice,
        "damaged_classifiers": damaged,
        "files_too_many": len(set((state / "classifiers").iterdir()) - expected)
        + len(list((state / "tasks").iterdir())),
    }


def _events(server: KillableServer, job: str) -> list[dict[str, Any]]:
    answer = server.client.get(f"{job}/events", params={"limit": 1000}, headers={"Accept": "application/json"})
    return list(answer.raise_for_status().json()["events"])


def _is_whole(path: Path, sha256: str) -> bool:
    if hashlib.sha256(bytes_of(path)).hexdigest() != sha256:
        return False
    return FreshClassifier.load(path).labels == tuple(LABELS)


def until(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(f"waited {PATIENCE:g} seconds without success until {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def two_servers() -> Iterator[tuple[list[KillableServer], Path]]:
    """Two servers on one state folder, with the smallest bundle, and that folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "artifacts" / "bundles").mkdir(parents=True)
        shutil.copy(ARTIFACTS / "bundles" / "digits.safetensors", folder / "artifacts" / "bundles")
        servers = [KillableServer(folder, "one"), KillableServer(folder, "other")]
        try:
            yield servers, folder / "state"
        finally:
            for server in servers:
                if server.process.poll() is None:
                    server.kill()


def run(rounds: int, seed: int = 0, minutes: float = math.inf) -> dict[str, Any]:
    """The figures of `rounds` rounds, or of those that start within `minutes` minutes."""
    chance, findings, began = random.Random(seed), Findings(), time.monotonic()
    with two_servers() as (servers, state):
        for index in range(rounds):
            if time.monotonic() - began > 60 * minutes:
                break
            victim = VICTIMS[index % len(VICTIMS)]
            play(servers, victim, chance, findings)
            print(
                f"round {index + 1:3}: {victim:10} all ended {findings.recovery[-1]:5.1f} s after the kill", flush=True
            )
        until(lambda: all(server.is_ready() for server in servers), "both servers are ready")
        codes = [server.terminate() for server in servers]
        servers[0].start()  # its start removes leftover files
        until(servers[0].is_ready, "the server is ready again")
        figures = audit(servers[0], state, findings)
    return {
        "rounds": len(findings.recovery),
        "kills": dict(findings.kills),
        "kills_in_training": findings.in_training,
        "accepted": len(findings.accepted),
        "stuck": len(findings.stuck),
        **figures,
        "orphans": findings.orphans,
        "exit_codes_of_sigterm": codes,
        "recovery_seconds_median": round(statistics.median(findings.recovery), 2),
        "recovery_seconds_max": round(max(findings.recovery), 2),
        "lease_seconds": LEASE_SECONDS,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = command_parser(__doc__, "seed", "quick")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no round after this time")
    options = parser.parse_args()
    figures = run(5 if options.quick else options.rounds, options.seed, options.minutes)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
