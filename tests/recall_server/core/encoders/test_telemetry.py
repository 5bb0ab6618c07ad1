"""onnxruntime sends nothing to its maker and leaves no file behind, in the server, the trainer and the client.

Its telemetry is on by default. It keeps an id and a database below the home folder from the import on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recall_server.core.encoders.onnx_session import NO_TELEMETRY, cpu_session

ROOT = Path(__file__).parents[4]
ENCODER = ROOT / "artifacts" / "encoders" / "fashion-mnist-images-bfa743f0.onnx"
# onnxruntime itself is silent where these are set.
SILENCING = {"CI", "GITHUB_ACTIONS", *NO_TELEMETRY, "PYTEST_CURRENT_TEST"}

WAYS = {
    "server": "from recall_server.core.encoders.onnx_session import open_session\nopen_session(data, 'a', 'cpu', 1)",
    "trainer": "import numpy\nfrom trainer.cli.encoder import _run\n_run(data, numpy.zeros((1, 1, 28, 28), 'f'))",
    "client": "from recall_client.local.classifier import require_runtime\n"
    "require_runtime().InferenceSession(data, providers=['CPUExecutionProvider'])",
}


def files_left_by(way: str, home: Path) -> list[Path]:
    """The files in the home folder of a process that has opened a session in this way."""
    code = f"import pathlib, sys\ndata = pathlib.Path({str(ENCODER)!r}).read_bytes()\n{WAYS[way]}\n"
    environment = {name: value for name, value in os.environ.items() if name not in SILENCING}
    environment |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])}
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)
    return [path for path in home.rglob("*") if path.is_file() and "onnxruntime" in str(path)]


@pytest.mark.process
@pytest.mark.parametrize("way", ["server", "trainer", "client"])
def test_no_id_and_no_database_are_left_in_the_home_folder(way: str, tmp_path: Path) -> None:
    assert files_left_by(way, tmp_path) == []


def test_somebody_who_wants_the_telemetry_may_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_TELEMETRY:
        monkeypatch.setenv(name, "0")
    cpu_session(ENCODER.read_bytes())
    assert [os.environ[name] for name in NO_TELEMETRY] == ["0", "0"]
