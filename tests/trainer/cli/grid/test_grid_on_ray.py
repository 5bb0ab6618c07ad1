"""A grid on a Ray cluster: cells go on where a lost node left them, and clusters that cannot be used are refused."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from benchmarks.process_tree import descendants
from tests.suite.ray_cluster import LocalCluster
from tests.suite.waiting import eventually
from tests.trainer.cli.grid.test_grid import SETTINGS, cell
from trainer.cli.grid.run import Grid
from trainer.cli.grid.runners import CellRunner, LocalProcesses, RayCells
from trainer.run.parallel import ray_tasks as module
from trainer.run.parallel.ray_tasks import RayTasks

# What runs a cell here: it counts to 30 with a checkpoint after each step, slowly at first, and writes what it made.
PROGRAM = """
import hashlib, json, os, pathlib, sys, time
if "--tied" in sys.argv:
    from trainer.run.parallel.child import end_with_input
    end_with_input()
folder = pathlib.Path(sys.argv[1])
(folder / "process.txt").write_text(str(os.getpid()))
checkpoint = folder / "checkpoint.json"
step, state = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, "")
with (folder / "starts.txt").open("a") as file:
    file.write(f"{step}\\n")
while step < 30:
    step, state = step + 1, hashlib.sha256(state.encode()).hexdigest()
    (folder / "new").write_text(json.dumps([step, state]))
    (folder / "new").replace(checkpoint)
    time.sleep(0.1 if "--tied" in sys.argv else 0)
(folder / "bundle.safetensors").write_text(state)
record = json.loads((folder / "cell.json").read_text()) | {"status": "done"}
(folder / "new").write_text(json.dumps(record))
(folder / "new").replace(folder / "cell.json")
"""


@pytest.mark.process
def test_the_cell_of_a_node_that_dies_goes_on_from_its_checkpoint_to_the_same_bytes(
    tmp_path: Path, ray_cluster: LocalCluster, ray_tasks: RayTasks
) -> None:
    said: list[str] = []

    def made(name: str, runner: CellRunner) -> bytes:
        table = Grid(tmp_path / name, runner, said.append).run([cell("window")], SETTINGS)
        assert table.rows[0].done, table.markdown()
        return (tmp_path / name / cell("window").folder / "bundle.safetensors").read_bytes()

    def kill_the_node() -> None:
        eventually(lambda: (place / "starts.txt").exists(), "the cell runs")
        process = int((place / "process.txt").read_text())
        ray_cluster.remove(next(node for node in ray_cluster.nodes if process in descendants(node.process.pid)))

    place = tmp_path / "ray" / cell("window").folder
    killer = Thread(target=kill_the_node)
    killer.start()
    try:
        found = made("ray", RayCells(replace(ray_tasks, tell=said.append), ("-c", PROGRAM)))
    finally:
        killer.join()
        ray_cluster.add()
    first, again = (int(line) for line in (place / "starts.txt").read_text().split())
    assert first == 0 < again, "it began once, and went on once"
    assert found == made("here", LocalProcesses(1, program=("-c", PROGRAM)))
    assert any(sentence.startswith("a task was lost and runs again") for sentence in said)


@pytest.mark.process
def test_a_cell_for_which_no_node_has_room_is_refused(ray_cluster: LocalCluster, ray_tasks: RayTasks) -> None:
    with pytest.raises(ValueError, match=r"no node of the Ray cluster has 64 CPUs and 1 GPUs, which each task takes"):
        replace(ray_tasks, cpus=64, gpus=1).check_room()


@pytest.mark.process
def test_a_node_without_the_folder_or_with_other_code_is_refused(
    tmp_path: Path, ray_tasks: RayTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = module.code()
    ray_tasks.check(tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(module, "seen", lambda path: (ours, False))
    with pytest.raises(ValueError, match=r"does not see the folder .*: --output must be on storage that all nodes"):
        ray_tasks.check(tmp_path)
    monkeypatch.setattr(module, "seen", lambda path: ("torch 1.0", True))
    with pytest.raises(ValueError, match=r"has torch 1\.0, and this machine memory-recall .*: install the same"):
        ray_tasks.check(tmp_path)


Refused = Callable[..., str]


def test_an_address_that_is_no_cluster_is_refused(refused: Refused, tmp_path: Path) -> None:
    grid = ["grid", "--datasets", "digits", "--output", str(tmp_path / "grid"), "--ray"]
    assert "nothing answers at 127.0.0.1:1 (Connection refused); see --ray" in refused(*grid, "127.0.0.1:1")
    assert "--ray auto is not the address of a running Ray cluster" in refused(*grid, "auto")
    assert "unknown device 'tpu'" in refused(*grid, "127.0.0.1:1", "--device", "tpu")
    assert not (tmp_path / "grid").exists()


def test_other_machines_need_a_token(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    said = refused("grid", "--datasets", "digits", "--output", str(tmp_path), "--ray", "10.0.0.5:6379")
    assert "start it with RAY_AUTH_MODE=token" in said


def test_without_ray_the_sentence_says_what_to_install(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    said = refused("grid", "--datasets", "digits", "--output", str(tmp_path), "--ray", "127.0.0.1:1")
    assert said == "error: --ray needs Ray, which is not installed: pip install 'memory-recall[ray]'\n"
