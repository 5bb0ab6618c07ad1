"""A server over a folder that a trainer writes to: it serves each better version, whole, even if the trainer dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from benchmarks.running_server import running_server
from recall_server.core.bundle.bundle import MemoryBundle
from tests.suite.waiting import PATIENCE, eventually
from tests.trainer.data_examples import bars_data

ROOT = Path(__file__).parent.parent
WRITER = """
import sys, torch
from pathlib import Path
from tests.trainer.killed_runs import Killable
torch.set_num_threads(1)
Killable(Path(sys.argv[1])).run(Path(sys.argv[2]))
"""


@pytest.mark.process
def test_a_server_always_answers_from_complete_bundles_while_the_trainer_writes_and_dies(
    tmp_path: Path,
) -> None:
    data, output = tmp_path / "data", tmp_path / "artifacts" / "bundles" / "bars.safetensors"
    data.mkdir()
    output.parent.mkdir(parents=True)
    bars_data(data)
    trainer = subprocess.Popen([sys.executable, "-c", WRITER, str(data), str(output)], cwd=ROOT)
    try:
        eventually(output.exists, "the first version is there")
        with running_server("--device=cpu", "--worker-threads=1", artifacts=tmp_path / "artifacts") as server:
            with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:
                seen = [served(client)]
                eventually(lambda: len(versions(watch(client, seen))) >= 4, "better versions are served")
                trainer.kill()
                trainer.wait(PATIENCE)
                left = MemoryBundle.load(output)
                eventually(lambda: watch(client, seen)[-1]["sha256"] == left.sha256, "the last is served")
    finally:
        trainer.kill()
        trainer.wait(PATIENCE)
    assert versions(seen) == sorted(versions(seen))
    best = [max(point["accuracy"] for point in each["manifest"]["progress"]["validation"]) for each in seen]
    assert best == sorted(best)


def served(client: httpx2.Client) -> dict[str, Any]:
    """What the server says of the bundle; it recalls from it, too."""
    recalled = client.get("/recall", params={"labels": "top,bottom", "per_label": "all"})
    assert recalled.status_code == 200, recalled.text
    answer = client.get("/bundles/bars")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def watch(client: httpx2.Client, seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return `seen` with what is served now."""
    seen.append(served(client))
    return seen


def versions(seen: list[dict[str, Any]]) -> list[int]:
    """The versions that were served, in the order in which they were first."""
    return list(dict.fromkeys(each["manifest"]["progress"]["version"] for each in seen))
