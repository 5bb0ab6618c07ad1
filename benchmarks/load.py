"""200 connections recall without pause while jobs train: errors, latency and memory growth.

    python -m benchmarks.load [--quick] [--minutes 5] [--connections 200]

Nine of ten recalls are among a few cached ones; the tenth is new. One training after another keeps the worker busy.
Resident memory is that of the web process; its growth is the mean of the last fifth of the time over the mean of the
second fifth. The cache is small, so that it is full within the first fifth and any later growth is a leak. --quick: 20
seconds. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator

import httpx2

from benchmarks.command import command_parser
from benchmarks.connections import get, keep_asking
from benchmarks.running_server import BackgroundThreads, RunningServer, running_server

CACHE = 4 * 2**20
LABELS = ("Trouser", "Dress", "Coat", "Sandal", "Shirt", "Bag")


class Watcher(BackgroundThreads):
    """Samples resident memory every second, and starts one training after another, until told to stop."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(self._sample, self._train)
        self.server, self.resident = server, list[int]()
        self.trained = self.failed = 0

    def _sample(self) -> None:
        while not self.stopped.wait(1.0):
            self.resident.append(self.server.resident_bytes())

    def _train(self) -> None:
        with httpx2.Client(base_url=self.server.url, timeout=90) as client:
            seed = 0
            while not self.stopped.is_set():
                body = {"labels": ["digits:3", "digits:8", "digits:0"], "seed": seed}
                record = client.post("/classifier", json=body, headers={"Prefer": "wait=30"}).json()
                while not record["is_terminal"] and not self.stopped.is_set():
                    record = client.get(record["links"]["self"], headers={"Prefer": "wait=10"}).json()
                self.trained += record["status"] == "succeeded"
                self.failed += record["status"] == "failed"
                seed += 1


def recalls(server: RunningServer) -> Iterator[bytes]:
    """Yield requests for ever; every tenth differs from all before."""
    known = [f"fashion-mnist:{label}&per_label=3&format={form}" for label in LABELS for form in ("png", "json")]
    for number in itertools.count():
        fresh = f"fashion-mnist:{LABELS[number % len(LABELS)]}&per_label=3&seed={number}"
        asked = fresh if number % 10 == 0 else known[number % len(known)]
        yield get(server.host, server.port, f"/recall?labels={asked}")


def growth(resident: list[int]) -> float:
    """Mean of the last fifth over the mean of the second, less one."""
    fifth = max(1, len(resident) // 5)
    return statistics.mean(resident[-fifth:]) / statistics.mean(resident[fifth : 2 * fifth]) - 1


def main(arguments: list[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=200)
    options = parser.parse_args(arguments)
    seconds = 20.0 if options.quick else 60 * options.minutes
    flags = ["--device=cpu", "--workers=1", "--worker-threads=1", f"--cache-bytes={CACHE}"]
    with running_server(*flags) as server:
        requests = recalls(server)
        began = time.perf_counter()
        with Watcher(server) as watcher:
            tally = asyncio.run(
                keep_asking(server.host, server.port, requests, connections=options.connections, seconds=seconds)
            )
        spent = time.perf_counter() - began
    figures = {
        "connections": options.connections,
        "seconds": round(spent, 1),
        "recalls": tally.statuses.total(),
        "errors": {str(status): count for status, count in tally.statuses.items() if status != 200},
        "recalls_per_second": round(tally.statuses.total() / seconds),
        "p50_ms": round(1000 * tally.quantile(0.5), 1),
        "p99_ms": round(1000 * tally.quantile(0.99), 1),
        "trained_meanwhile": watcher.trained,
        "failed_meanwhile": watcher.failed,
        "resident_megabytes": [round(watcher.resident[index] / 2**20) for index in (0, -1)],
        "resident_growth": round(growth(watcher.resident), 4),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
