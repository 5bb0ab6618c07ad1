"""Cells of a grid that were recorded are those that it had finished, and another grid goes on from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import grid_cells
from trainer.evaluation.grid.cell import Cell, CellAccuracies, CellRecord, GridSettings, records

SETTINGS = GridSettings(minutes=1, runs=2, networks=("convnet",))


def finished(method: str, accuracy: float = 0.5) -> CellRecord:
    cell = Cell(method=method, dataset="digits", images_per_class=1, seed=0)
    values = CellAccuracies(network="convnet", protocol="common", values=(accuracy, accuracy))
    return CellRecord(cell=cell, settings=SETTINGS, status="done", measured=(values,))


def kept(folder: Path, *found: CellRecord) -> Path:
    for record in found:
        (folder / record.cell.folder).mkdir(parents=True, exist_ok=True)
        record.save(folder / record.cell.folder)
    return folder


def test_finished_cells_are_recorded_and_replaced_by_name(tmp_path: Path) -> None:
    file = tmp_path / "grid.jsonl"
    waiting = finished("dc").model_copy(update={"status": "waiting"})
    grid_cells.main(["--take", str(kept(tmp_path / "a", finished("dm"), waiting)), "--file", str(file)])
    grid_cells.main(["--take", str(kept(tmp_path / "b", finished("dm", 0.75), finished("dd"))), "--file", str(file)])
    found = grid_cells.read(file)
    assert [(cell.record.cell.method, cell.record.measured[0].values[0]) for cell in found] == [
        ("dd", 0.5),
        ("dm", 0.75),
    ]


def test_a_grid_without_finished_cells_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished cell"):
        grid_cells.main(["--take", str(tmp_path), "--file", str(tmp_path / "grid.jsonl")])
    assert not (tmp_path / "grid.jsonl").exists()


def test_a_grid_is_given_the_cells_that_it_lacks(tmp_path: Path) -> None:
    file, grid = tmp_path / "grid.jsonl", kept(tmp_path / "new", finished("dm", 0.25))
    grid_cells.main(["--take", str(kept(tmp_path / "old", finished("dm"), finished("dd"))), "--file", str(file)])
    grid_cells.main(["--give", str(grid), "--file", str(file)])
    assert records(grid) == [finished("dd"), finished("dm", 0.25)]


def test_the_recorded_cells_can_be_read() -> None:
    assert all(cell.record.status == "done" for cell in grid_cells.read())
