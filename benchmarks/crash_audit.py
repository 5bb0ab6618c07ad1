"""What is left after crashes: the end of every accepted training, and every file, process and shared memory."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.killable_server import KillableServer
from benchmarks.process_tree import bytes_of, is_running
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.errors import InvalidBundle

SECONDS_TO_END = 10.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


def audit(server: KillableServer, state: Path, accepted: Iterable[str], labels: Sequence[str]) -> dict[str, Any]:
    """Check the final state of every accepted training, and every file in the state folder."""
    ended: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    twice, damaged, expected = 0, 0, set()
    for job in accepted:
        final = server.record(job)
        ended[str(final["status"])] += 1
        told = [event["status"] for event in _events(server, job) if event["kind"] == "status"]
        twice += sum(each in ("succeeded", "failed", "cancelled") for each in told) != 1
        if final["status"] == "failed":
            reasons[str(final["error"]["type"])] += 1
        if final["status"] == "succeeded":
            number = "" if final["attempt"] == 1 else f".{final['attempt']}"
            path = state / "classifiers" / f"{final['id']}{number}.safetensors"
            expected.add(path)
            damaged += not _is_whole(path, final["file"]["sha256"], labels)
    return {
        "ended": dict(ended),
        "failed_because": dict(reasons),
        "ended_more_or_less_than_once": twice,
        "damaged_classifiers": damaged,
        "files_too_many": len(set((state / "classifiers").iterdir()) - expected)
        + len(list((state / "tasks").iterdir())),
    }


def still_running(processes: Iterable[int]) -> list[int]:
    """Which of these processes have not ended after ten seconds."""
    left, limit = list(processes), time.monotonic() + SECONDS_TO_END
    while (left := [process for process in left if is_running(process)]) and time.monotonic() < limit:
        time.sleep(0.05)
    return left


def processes_in(*folders: Path) -> list[int]:
    """The running processes whose working directory is, or was, in one of these folders."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            place = os.readlink(entry / "cwd") if entry.name.isdecimal() else ""
        except OSError:
            continue  # it has just ended
        if any(Path(place).is_relative_to(folder) for folder in folders):
            found.append(int(entry.name))
    return [process for process in found if is_running(process)]


def shared_memory() -> set[str]:
    """The names of all shared memory of this machine."""
    return {path.name for path in SHARED_MEMORY.iterdir()}


def _events(server: KillableServer, job: str) -> list[dict[str, Any]]:
    answer = server.client.get(f"{job}/events", params={"limit": 1000}, headers={"Accept": "application/json"})
    return list(answer.raise_for_status().json()["events"])


def _is_whole(path: Path, sha256: str, labels: Sequence[str]) -> bool:
    if hashlib.sha256(bytes_of(path)).hexdigest() != sha256:
        return False
    try:
        return FreshClassifier.load(path).labels == tuple(labels)
    except InvalidBundle:  # what was written down is no classifier
        return False
