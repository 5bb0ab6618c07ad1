"""The commands that are printed after a memory was made work from another folder, beside other memories, twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.docs.pages import ROOT
from tests.suite.waiting import eventually
from tests.trainer.cli.test_command_line import run
from tests.trainer.data_examples import picture_folder
from trainer.cli.memories.next_steps import free_port, program
from trainer.methods.named import compose

PATIENCE = 180.0
SMALL = ["--image-size", "8", "--images-per-class", "2", "--encoder", "none"]
STEP = re.compile(r"^(serve it|use it|improve it): +(.+)$", re.MULTILINE)


@contextmanager
def shell(command: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command of a shell that runs in a folder until the block ends."""
    folder.mkdir(exist_ok=True)
    settings = {"RECALL_STATE": str(folder / "state"), "RECALL_DRAIN_SECONDS": "0", "RECALL_DEVICE": "cpu"}
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=folder,
        env=os.environ | settings | {"PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def finished(command: str, folder: Path) -> str:
    """What the command says; it must succeed."""
    with shell(command, folder) as process:
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, f"{command}\n{said}"
    return said


def steps(printed: str) -> dict[str, str]:
    return dict(STEP.findall(printed))


def ready(port: str) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.process
def test_every_printed_command_works_from_another_folder_beside_the_committed_memories_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.suite.waiting.PATIENCE", PATIENCE)
    narrow = [f"{each}.network=convnet:filters=8,depth=2" for each in ("objective", "retraining")]
    monkeypatch.setattr("trainer.run.search.quickstart.compose", lambda name: compose(name, narrow))
    monkeypatch.chdir(tmp_path)
    served = tmp_path / "my artifacts"
    shutil.copytree(ROOT / "artifacts", served)
    data = picture_folder(tmp_path / "my pictures", "airplane", "horse", each=20)
    command = ["quickstart", data.name, "--artifacts", served.name, *SMALL]
    first = steps(run(*command))
    with shell(first["serve it"], tmp_path / "elsewhere"):
        port = free(first)
        eventually(lambda: ready(port), "the server is ready")
        patient = first["use it"].replace("wait=60", "wait=300")
        made = json.loads(finished(patient, tmp_path / "elsewhere"))
        assert made["status"] == "succeeded" and made["labels"] == ["airplane", "horse"]
        again = steps(run(*command, "--overwrite"))
        assert f"--port {port}" not in again["serve it"], "a server listens on this one"
        finished(again["use it"].replace(free(again), port), tmp_path / "elsewhere")
    for printed in (first, again):
        shorter = printed["improve it"].replace("--minutes 30", "--minutes 0.05 --set objective.eager=true")
        assert "my-pictures.safetensors" in finished(shorter, tmp_path / "elsewhere")


def free(printed: dict[str, str]) -> str:
    return re.findall(r"--port (\d+)", printed["serve it"])[0]


@pytest.mark.process
def test_a_port_on_which_something_listens_is_not_suggested() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port


def test_a_program_is_called_by_its_path_where_the_shell_does_not_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert program("recall-server").endswith("/bin/recall-server")
