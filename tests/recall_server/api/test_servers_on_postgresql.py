"""Two real servers on one table of PostgreSQL and one state folder, with kills and restarts of each."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from benchmarks.postgres_server import PostgresServer
from benchmarks.running_server import RunningServer, running_server
from tests.suite.needs import needs_postgresql
from tests.suite.waiting import eventually

pytestmark = [pytest.mark.process, needs_postgresql]

JOBS = 12
LABELS = ("left", "right")


def flags(server: PostgresServer, state: Path, name: str) -> list[str]:
    url = f"{server.schema_url(name)}&connect_timeout=3"
    return ["--device=cpu", f"--state={state}", f"--database={url}", "--lease-seconds=3", "--drain-seconds=0"]


def submit(server: RunningServer, seed: int) -> httpx2.Response:
    asked = {"labels": list(LABELS), "seed": seed}
    return httpx2.post(f"{server.url}/classifier", json=asked, timeout=60)


def record(server: RunningServer, identifier: str) -> dict[str, Any]:
    answer = httpx2.get(f"{server.url}/classifier/{identifier}", timeout=60)
    found: dict[str, Any] = answer.json() if answer.status_code == 200 else {"is_terminal": False}
    return found


def test_every_job_ends_once_whatever_dies(own_postgres: PostgresServer, artifacts: Path, tmp_path: Path) -> None:
    options = flags(own_postgres, tmp_path / "state", "crashes")
    with ExitStack() as stack:
        doomed = stack.enter_context(running_server(*options, artifacts=artifacts))
        left = stack.enter_context(running_server(*options, artifacts=artifacts))
        accepted = [submit((doomed, left)[seed % 2], seed) for seed in range(JOBS)]
        assert {answer.status_code for answer in accepted} == {202}
        doomed.process.kill()
        own_postgres.stop(signal.SIGQUIT)
        own_postgres.start()
        jobs = [answer.json()["id"] for answer in accepted]
        eventually(lambda: all(record(left, job)["is_terminal"] for job in jobs), "every job has ended")
        assert {record(left, job)["status"] for job in jobs} == {"succeeded"}
        sizes = {len(httpx2.get(f"{left.url}/classifier/{job}/download", timeout=60).content) for job in jobs}
        assert min(sizes) > 1000
    names = {path.name for path in (tmp_path / "state" / "classifiers").iterdir()}
    begun = {name for name in names if name.startswith(".")}  # whoever is killed while writing leaves this for an hour
    assert len(begun) <= 1
    assert {name.split(".")[0] for name in names - begun} == set(jobs)
    assert list((tmp_path / "state" / "tasks").glob("*.safetensors")) == []


def test_a_frozen_database_is_told_and_does_not_hold_the_server(
    own_postgres: PostgresServer, artifacts: Path, tmp_path: Path
) -> None:
    options = flags(own_postgres, tmp_path / "state", "frozen")
    with running_server(*options, artifacts=artifacts) as server:
        own_postgres.freeze()
        answer = submit(server, 0)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        ready = f"{server.url}/health/ready"
        eventually(lambda: httpx2.get(ready, timeout=60).status_code == 503, "ready says so")
        assert httpx2.get(f"{server.url}/health/live", timeout=60).status_code == 200
        own_postgres.thaw()
        eventually(lambda: httpx2.get(ready, timeout=60).status_code == 200, "it is ready again")
        assert submit(server, 1).status_code == 202
        own_postgres.freeze()
        server.process.terminate()
        server.process.wait(60)
    own_postgres.thaw()
