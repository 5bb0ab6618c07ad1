"""Asks a server whether it is alive, many times a second, from a process of its own.

A thread beside those of another caller would also wait for its own interpreter. Used by `benchmarks.hostile`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple, Self

import httpx2

from benchmarks.running_server import PATIENCE, RunningServer, processor_seconds

PROBES_PER_SECOND = 20


class Probe(NamedTuple):
    """One request: when it began (`time.monotonic`), its seconds, and processor time of the server meanwhile."""

    began: float
    seconds: float
    loop: float  # of the event loop
    process: float  # of the whole web process


class LivenessProbe:
    """Asks while the context lasts. The probes and the kinds of errors are known at its end."""

    def __init__(self, server: RunningServer) -> None:
        self.probes: Sequence[Probe] = ()
        self.errors: Sequence[str] = ()
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_ask, args=(theirs, server.url, server.process.pid), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        assert self._pipe.poll(PATIENCE), "the process that asks has not begun"
        self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        if self._pipe.poll(PATIENCE):
            self.probes, self.errors = self._pipe.recv()
        self._process.join(PATIENCE)
        self._process.kill()

    def between(self, began: float, ended: float) -> list[Probe]:
        """The probes that began in this stretch of time."""
        return [probe for probe in self.probes if began <= probe.began < ended]


def _ask(pipe: Connection, url: str, server: int) -> None:
    probes: list[Probe] = []
    errors: list[str] = []
    pipe.send(None)
    with httpx2.Client(base_url=url, timeout=PATIENCE) as client:
        while not pipe.poll(1 / PROBES_PER_SECOND):
            try:
                before, began = processor_seconds(server), time.monotonic()
                client.get("/health/live").raise_for_status()
                seconds, after = time.monotonic() - began, processor_seconds(server)
            except (httpx2.HTTPError, OSError) as error:  # an OSError: the server has ended
                errors.append(type(error).__name__)
            else:
                probes.append(Probe(began, seconds, after[0] - before[0], after[1] - before[1]))
    pipe.send((probes, errors))
