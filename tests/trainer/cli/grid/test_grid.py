"""recall-trainer grid: cells run apart, go on where they were stopped, and share a folder with no other grid."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from trainer.cli.grid import cell_process
from trainer.cli.grid.run import Grid, locked, prepare
from trainer.cli.grid.runners import CellRunner, LocalProcesses, RayCells
from trainer.evaluation.grid.cell import Cell, CellRecord, GridSettings
from trainer.run.distill import Interrupted
from trainer.run.parallel.ray_tasks import RayTasks

SETTINGS = GridSettings(minutes=0.02, runs=2, networks=("convnet:filters=4,depth=2",))

# What runs a cell here: it says which it ran, and ends as the name of the method says.
PROGRAM = """
import json, os, pathlib, signal, sys
folder = pathlib.Path(sys.argv[1])
record = json.loads((folder / "cell.json").read_text())
method = record["cell"]["method"]
with (folder.parent / "ran.txt").open("a") as file:
    file.write(method + "\\n")
if method == "crashes":
    os.kill(os.getpid(), signal.SIGKILL)
if method == "waits":
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(130))
    os.kill(int((folder.parent / "grid.lock").read_text()), signal.SIGTERM)
    while True:
        signal.pause()
record["status"] = "done"
networks = record["settings"]["networks"]
record["measured"] = [{"network": each, "protocol": "common", "values": [0.5]} for each in networks]
(folder / "cell.new").write_text(json.dumps(record))
(folder / "cell.new").replace(folder / "cell.json")  # another cell's end may read it at any moment
"""


def cell(method: str, dataset: str = "digits") -> Cell:
    return Cell(method=method, dataset=dataset, images_per_class=1, seed=0)


Runners = Callable[[int], CellRunner]


def processes(jobs: int) -> CellRunner:
    return LocalProcesses(jobs, program=("-c", PROGRAM))


@pytest.fixture(params=["processes", "ray"])
def runners(request: pytest.FixtureRequest) -> Runners:
    """Make a runner of so many cells at a time."""
    if request.param == "processes":
        return processes
    tasks: RayTasks = request.getfixturevalue("ray_tasks")
    return lambda jobs: RayCells(replace(tasks, at_once=jobs), ("-c", PROGRAM))


def grid(folder: Path, jobs: int = 1, runners: Runners = processes) -> Grid:
    return Grid(folder, runners(jobs), lambda sentence: None)


def ran(folder: Path) -> list[str]:
    return (folder / "ran.txt").read_text().split()


@pytest.mark.process
def test_a_cell_that_fails_does_not_stop_the_others_and_the_table_says_why(tmp_path: Path, runners: Runners) -> None:
    table = grid(tmp_path, 2, runners).run([cell("crashes"), cell("window"), cell("random")], SETTINGS)
    assert sorted(row.method for row in table.rows if row.done) == ["random", "window"]
    assert "crashes on digits at 1, seed 0, failed: its process ended with status -9" in table.markdown()
    assert (tmp_path / "grid.md").read_text() == table.markdown()
    assert (tmp_path / "grid.csv").read_text() == table.csv()


@pytest.mark.process
def test_a_second_start_runs_what_failed_or_is_new_and_nothing_else(tmp_path: Path) -> None:
    grid(tmp_path).run([cell("random"), cell("crashes")], SETTINGS)
    table = grid(tmp_path).run([cell("random"), cell("crashes"), cell("window")], SETTINGS)
    assert ran(tmp_path) == ["random", "crashes", "crashes", "window"]
    assert len(table.rows) == 3
    grid(tmp_path).run([cell("random")], SETTINGS.model_copy(update={"networks": ("mlp",)}))
    assert ran(tmp_path)[4:] == ["random"], "for the network that was added"
    record = CellRecord.load(tmp_path / cell("random").folder)
    assert [each.network for each in record.measured] == ["convnet:filters=4,depth=2", "mlp"]


def test_cells_of_other_settings_are_refused(tmp_path: Path) -> None:
    prepare(tmp_path, cell("random"), SETTINGS)
    with pytest.raises(ValueError, match=r"holds digits-1-random-seed0 with minutes=0\.02, not 3\.0"):
        prepare(tmp_path, cell("random"), SETTINGS.model_copy(update={"minutes": 3.0}))


def test_a_folder_has_one_grid_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(ValueError, match=rf"running in {tmp_path.name} already \(process {os.getpid()}\)"):
            grid(tmp_path).run([cell("random")], SETTINGS)
    with locked(tmp_path):
        pass


@pytest.mark.process
def test_a_cell_whose_grid_was_killed_keeps_the_folder_locked(tmp_path: Path) -> None:
    with locked(tmp_path) as lock:
        orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    with pytest.raises(ValueError, match="wait for it and its cells"), locked(tmp_path):
        pass
    orphan.communicate(b"\n")
    with locked(tmp_path):
        pass


@pytest.mark.process
def test_a_signal_is_passed_on_and_unfinished_cells_run_at_the_next_start(tmp_path: Path, runners: Runners) -> None:
    with pytest.raises(Interrupted):
        grid(tmp_path, 1, runners).run([cell("random"), cell("waits"), cell("window")], SETTINGS)
    assert ran(tmp_path) == ["random", "waits"]
    states = {name: CellRecord.load(tmp_path / cell(name).folder).status for name in ("random", "waits", "window")}
    assert states == {"random": "done", "waits": "waiting", "window": "waiting"}


METHOD = """
from recall_server.core.networks import NetworkSpec
from trainer.methods.families.remember_the_past import bptt


def method():
    network = NetworkSpec(filters=4, depth=2)
    return bptt().varied(
        "tiny", objective={"network": network, "steps": 2, "window": 2, "real_batch": 9, "augmentation": "none"},
        preprocessing=SPACE, retraining={"network": network, "steps": 4, "augmentation": "none"},
    )
"""


@pytest.fixture
def method_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.py"
    path.write_text("from trainer.methods import StandardiseSpec\nSPACE = StandardiseSpec()\n" + METHOD)
    return path


def test_a_cell_is_distilled_and_measured_by_both_protocols(
    tmp_path: Path, bars_folder: Path, method_file: Path
) -> None:
    one = cell(str(method_file), str(bars_folder))
    place = tmp_path / one.folder
    prepare(tmp_path, one, SETTINGS)
    assert cell_process.main([str(place)]) == 0
    record = CellRecord.load(place)
    assert record.status == "done" and record.made is not None
    bundle = MemoryBundle.load(place / "bundle.safetensors")
    assert record.made.numbers == bundle.manifest.budget.numbers_stored == 3 * 64
    assert record.made.file_bytes == bundle.file_bytes and record.made.outer_steps > 0
    assert [each.protocol for each in record.measured] == ["common", "own"]
    assert all(len(each.values) == SETTINGS.runs for each in record.measured)

    written = (place / "bundle.safetensors").stat().st_mtime_ns
    prepare(tmp_path, one, SETTINGS.model_copy(update={"networks": ("mlp:hidden=8",)}))
    cell_process.main([str(place)])
    again = CellRecord.load(place)
    assert again.measured[:2] == record.measured and again.measured[2].network == "mlp:hidden=8"
    assert (place / "bundle.safetensors").stat().st_mtime_ns == written, "measured further, not distilled anew"


def test_a_cell_that_cannot_be_made_says_why(tmp_path: Path, bars_folder: Path, method_file: Path) -> None:
    method_file.write_text(method_file.read_text().replace("StandardiseSpec()", "1 / 0"))
    for method, reason in (
        (str(method_file), "ZeroDivisionError"),
        ("rtp", "16 bases and 1 rows do not fit"),
    ):
        one = cell(method, str(bars_folder))
        prepare(tmp_path, one, SETTINGS)
        assert cell_process.main([str(tmp_path / one.folder)]) == 0
        record = CellRecord.load(tmp_path / one.folder)
        assert record.status == "failed" and reason in record.reason
