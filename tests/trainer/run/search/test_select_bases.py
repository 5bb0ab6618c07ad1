"""The sweep over numbers of bases: chosen on validation pictures, kept as it goes, and never run twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.cli.test_command_line import SMALL, run
from trainer.data.datasets import ImageDataset
from trainer.methods.named import compose
from trainer.run.parallel.ray_tasks import RayTasks
from trainer.run.progress import RunLimits
from trainer.run.search.select_bases import FEWEST_ROWS, Sweep, best, figure, known, select_bases

FIELDS = [value for value in SMALL if value != "--set"]


def sweep(dataset: ImageDataset, *overrides: str, images_per_class: float = 2) -> Sweep:
    method = compose("window", [*FIELDS, "outer.steps=2", "retraining.steps=5", *overrides])
    return Sweep(dataset, method, images_per_class, RunLimits(2, validate_every=1), 0, torch.device("cpu"))


def test_every_number_of_bases_is_measured_on_validation_pictures(bars_dataset: ImageDataset, tmp_path: Path) -> None:
    nothing = replace(bars_dataset.test, images=bars_dataset.test.images[:0], labels=bars_dataset.test.labels[:0])
    blind = sweep(replace(bars_dataset, test=nothing))
    said: list[str] = []
    points = select_bases(blind, [4, 2], tmp_path / "curve.json", said.append)
    assert [point["bases"] for point in points] == [2, 4]
    assert all(point["outer_steps"] == 2 and len(point["accuracies"]) == 2 for point in points)
    written = json.loads((tmp_path / "curve.json").read_text())
    assert written["points"] == points
    assert written["best"] == best(points)["bases"]
    assert len(said) == 2 and said[0].startswith("4 bases, ")


@pytest.mark.process
def test_a_sweep_on_a_ray_cluster_measures_the_same(
    bars_dataset: ImageDataset, tmp_path: Path, ray_tasks: RayTasks
) -> None:
    asked = sweep(bars_dataset)
    here = select_bases(asked, [2, 4], tmp_path / "here.json", print)
    there = select_bases(asked, [2, 4], tmp_path / "there.json", print, tasks=ray_tasks)
    assert [point | {"seconds": 0} for point in there] == [point | {"seconds": 0} for point in here]
    with pytest.raises(ValueError, match="no number of bases"):
        list(ray_tasks.map(_refuse, [1]))


def _refuse(bases: int) -> Any:
    raise ValueError("no number of bases")


def test_points_in_the_file_are_not_measured_again(
    bars_dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = tmp_path / "curve.json", sweep(bars_dataset)
    select_bases(asked, [2], path, print)
    measured: list[int] = []
    original = Sweep.measure
    monkeypatch.setattr(
        Sweep, "measure", lambda self, budget: (measured.append(budget.bases), original(self, budget))[1]
    )
    points = select_bases(asked, [2, 4], path, print)
    assert measured == [4]
    assert [point["bases"] for point in points] == [2, 4]
    with pytest.raises(ValueError, match=r"curve\.json is the curve of another sweep: its images_per_class differs"):
        select_bases(sweep(bars_dataset, images_per_class=3), [2], path, print)
    select_bases(sweep(bars_dataset, images_per_class=3), [2], path, print, overwrite=True)
    assert json.loads(path.read_text())["sweep"]["images_per_class"] == 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sweep": {}, "points": [], "best": 1}', "\xff"])
def test_a_file_of_something_else_is_not_overwritten(bars_dataset: ImageDataset, tmp_path: Path, content: str) -> None:
    path = tmp_path / "curve.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"curve\.json is no curve of bases; write to another --output"):
        known(path, sweep(bars_dataset))
    assert path.read_text(encoding="latin-1") == content


def test_by_default_all_numbers_that_leave_enough_rows_are_tried(bars_dataset: ImageDataset) -> None:
    """Two images of 64 numbers for each of three classes: 384 numbers; 16 bases of 16 numbers leave 2 rows."""
    assert [budget.bases for budget in sweep(bars_dataset).budgets(None)] == [4, 8, 12]
    assert all(budget.rows >= FEWEST_ROWS for budget in sweep(bars_dataset).budgets(None))
    plenty = sweep(bars_dataset, images_per_class=100)
    assert max(budget.bases for budget in plenty.budgets(None)) == 16, "no more directions than stored numbers"
    noise = sweep(bars_dataset, "start=noise", images_per_class=100)
    assert max(budget.bases for budget in noise.budgets(None)) == 512


def test_a_number_that_does_not_fit_is_refused_with_the_largest(bars_dataset: ImageDataset) -> None:
    with pytest.raises(ValueError, match="100 bases and 1 rows do not fit in 2 images per class; try with at most 20"):
        sweep(bars_dataset).budgets([4, 100])
    with pytest.raises(ValueError, match="a memory of stored_items has no bases to count"):
        sweep(bars_dataset, "memory=stored_items", "start=noise").budgets(None)


def test_an_instant_memory_can_be_swept_too(bars_dataset: ImageDataset, tmp_path: Path) -> None:
    method = compose("principal", [*FIELDS, "retraining.steps=5"])
    instant = Sweep(bars_dataset, method, 2, RunLimits(0), 0, torch.device("cpu"))
    (point,) = select_bases(instant, [4], tmp_path / "curve.json", print)
    assert (point["outer_steps"], point["best_step"]) == (0, 0)


def test_the_plot_has_a_point_for_every_number() -> None:
    points = [{"bases": bases, "rows": 3, "accuracy": 0.5, "spread": 0.1} for bases in (4, 8, 16)]
    (axes,) = figure(points, "bars, $ and all").axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["4\n(3)", "8\n(3)", "16\n(3)"]


def test_the_command_writes_the_curve_and_its_picture(bars_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "curve.json"
    options = ["--bases", "2,4", "--images-per-class", "2", "--outer-steps", "1", *SMALL, "--set", "retraining.steps=5"]
    output = run("select-bases", "--dataset", str(bars_folder), "--output", str(path), *options)
    assert "of 2 numbers tried" in output
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
