"""A real server where something that others take for granted is missing: it works, or ends with a sentence."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest
from PIL import Image

from tests.recall_server.api.prefix_proxy import behind_a_prefix
from tests.suite.waiting import PATIENCE, eventually

pytestmark = pytest.mark.process

# What the server's processes import first: it takes from them what root has even where nothing is mounted. Without it,
# the user has a home in the table of users, and Python finds another temporary folder than the one in TMPDIR.
DEPRIVED = """
import os, pwd, tempfile

def nobody(user):
    raise KeyError(f"getpwuid(): uid not found: {user}")

pwd.getpwuid = nobody
tempfile._candidate_tempdir_list = lambda: [os.environ["TMPDIR"]]
"""


@dataclass(frozen=True)
class Surroundings:
    """What a server is started in. `limit` is the shell's command before it, `closed` the end of its command line."""

    state: str = "state"
    limit: str = ""
    closed: str = ""
    temporary: str = "tmp"
    root_path: str = ""
    uploads: int = 1
    may_be_busy: bool = False


ALL = {
    "no home, no user, no standard error": Surroundings(closed="2>&-", state="what? %2F%25 #1 \U0001f43b"),
    "no temporary folder, files of half a megabyte, below a prefix": Surroundings(
        temporary="a file", limit="ulimit -f 1024;", root_path="/recall", closed="<&- >&-"
    ),
    "few file handles": Surroundings(limit="ulimit -n 64;", uploads=12, may_be_busy=True),
}


@contextmanager
def serving(surroundings: Surroundings, artifacts: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the address of a server in these surroundings, which has no variable but those it needs."""
    (folder / "a file").touch()
    (folder / "tmp").mkdir()
    (folder / "sitecustomize.py").write_text(DEPRIVED)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]),
        "TMPDIR": str(folder / surroundings.temporary),
        "CXX": "true",  # nothing is compiled, which would take half a minute without a cache
        "RECALL_ARTIFACTS": str(artifacts),
        "RECALL_STATE": str(folder / surroundings.state),
        "RECALL_ROOT_PATH": surroundings.root_path,
        "RECALL_PORT": str(port),
        "RECALL_WORKER_THREADS": "1",
        "RECALL_DRAIN_SECONDS": "1",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command(surroundings.limit, surroundings.closed), env=environment, stdout=log, stderr=log
        )
    try:
        eventually(lambda: process.poll() is not None or answers(port), "the server listens or has ended")
        assert process.poll() is None, (folder / "log").read_text()
        yield "127.0.0.1", port
        process.terminate()
        assert process.wait(PATIENCE) == 0, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait(PATIENCE)


def command(limit: str, closed: str = "") -> list[str]:
    """The command line of a server below a limit of the shell's, in units of 512 bytes for the size of files."""
    return ["/bin/sh", "-c", f'{limit} exec "$0" -m recall_server serve {closed}', sys.executable]


def answers(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def large(seed: int) -> bytes:
    """A picture of more than a megabyte."""
    file = io.BytesIO()
    Image.effect_noise((1300, 1300), 50 + seed).save(file, "PNG", compress_level=1)
    assert len(file.getvalue()) > 2**20
    return file.getvalue()


@pytest.mark.parametrize("name", ALL)
def test_a_server_works_in_poor_surroundings(artifacts: Path, tmp_path: Path, name: str) -> None:
    surroundings = ALL[name]
    pictures = large(1), large(2)
    with serving(surroundings, artifacts, tmp_path) as address, reached(surroundings, *address) as server:
        eventually(lambda: server.get("health/ready").status_code == 200, "it is ready")
        assert server.head("health/live").status_code == 200
        made = server.post("classifier", json={"labels": ["left", "right"]}, headers={"Prefer": "wait=60"})
        assert (made.status_code, made.json()["status"]) == (201, "succeeded"), made.text
        assert server.get(urljoin(str(server.base_url), made.json()["links"]["download"])).is_success

        def train(seed: int) -> int:
            sent = {"left": ("1.png", pictures[0]), "right": ("2.png", pictures[1])}
            parameters = {"addressing": "prototypes", "seed": str(seed)}
            answer = server.post("classifier", files=sent, params=parameters, headers={"Connection": "close"})
            assert "detail" in answer.json() or answer.is_success
            return answer.status_code

        with ThreadPoolExecutor(surroundings.uploads) as callers:
            statuses = Counter(callers.map(train, range(2 * surroundings.uploads)))
        assert statuses[201] + statuses[202]
        busy = {429, 503} if surroundings.may_be_busy else set()
        assert set(statuses) <= {201, 202} | busy, statuses
    assert (tmp_path / surroundings.state / "jobs.sqlite").exists()
    assert {entry.name for entry in tmp_path.iterdir()} == {
        "a file", "tmp", "log", "sitecustomize.py", surroundings.state, "__pycache__",
    }  # fmt: skip


@contextmanager
def reached(surroundings: Surroundings, host: str, port: int) -> Iterator[httpx2.Client]:
    """A client of the server, behind a proxy where it is below a prefix."""
    if surroundings.root_path:
        with behind_a_prefix(surroundings.root_path, host, port) as base, client(base) as through:
            yield through
    else:
        with client(f"http://{host}:{port}") as direct:
            yield direct


def client(base: str) -> httpx2.Client:
    return httpx2.Client(base_url=base, timeout=PATIENCE, trust_env=False)


HOPELESS = {"ulimit -n 6;": "error: no training process can be started", "ulimit -f 0;": "error: "}


@pytest.mark.parametrize("limit", HOPELESS)
def test_a_server_that_cannot_start_says_why(artifacts: Path, tmp_path: Path, limit: str) -> None:
    settings = {"RECALL_ARTIFACTS": str(artifacts), "RECALL_STATE": str(tmp_path / "state"), "RECALL_PORT": "0"}
    done = subprocess.run(
        command(limit), env=os.environ | settings | {"CXX": "true"}, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(HOPELESS[limit])
