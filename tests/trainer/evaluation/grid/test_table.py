"""The table of a grid: what it shows of every method, and what it says below."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from trainer.evaluation.grid.cell import Cell, CellAccuracies, CellRecord, GridSettings, MadeBundle
from trainer.evaluation.grid.plot import accuracy_over_minutes, apart
from trainer.evaluation.grid.published import SMALL, entries, published
from trainer.evaluation.grid.table import Table
from trainer.methods.named import METHODS
from trainer.output.plots.figures import to_bytes

SETTINGS = GridSettings(minutes=1, runs=2, networks=("convnet", "mlp"))


def record(method: str, *values: float, seed: int = 0, own: tuple[float, ...] = (0.5,)) -> CellRecord:
    """A cell that is done, with these accuracies of ConvNets; MLPs get the half."""
    measured = (
        CellAccuracies(network="convnet", protocol="common", values=values),
        CellAccuracies(network="mlp", protocol="common", values=tuple(value / 2 for value in values)),
        CellAccuracies(network="convnet:filters=64,depth=3,shrink=1", protocol="own", values=own),
    )
    made = MadeBundle(minutes=2.5, outer_steps=10, numbers=7840, file_bytes=33000, validation=0.5)
    return waiting(method, seed=seed).model_copy(update={"status": "done", "made": made, "measured": measured})


def waiting(method: str, seed: int = 0) -> CellRecord:
    return CellRecord(cell=Cell(method=method, dataset="cifar10", images_per_class=1, seed=seed), settings=SETTINGS)


def test_a_row_combines_all_seeds_with_the_published_figure_and_its_source() -> None:
    table = Table([record("dc", 0.2, 0.3), record("dc", 0.4, 0.5, seed=1, own=(0.6, 0.7))])
    (row,) = table.rows
    assert str(row.accuracy("common", "convnet")) == "35.0 ± 12.9"
    assert str(row.accuracy("own")) == "60.0 ± 10.0"
    line, note = (table.markdown().splitlines()[index] for index in (2, -1))
    assert note.startswith("* Mean and standard deviation over 2 fresh networks for each seed, by the common protocol")
    assert "| `dc` | 35.0 ± 12.9 | 17.5 ± 6.5 | 60.0 ± 10.0 | 7,840 | 33,000 | 2.5 | 28.3 | VICO-UoE" in line


def test_rows_are_sorted_by_accuracy_and_methods_behind_random_pictures_are_named() -> None:
    table = Table([record("dm", 0.1, 0.1), record("random", 0.2, 0.2), record("dc", 0.3, 0.3)])
    assert [row.method for row in table.rows] == ["dc", "random", "dm"]
    assert list(table.sentences()) == ["No better than random real pictures on cifar10 at 1: dm."]


def test_cells_that_failed_or_are_not_finished_are_named_with_the_reason() -> None:
    failed = waiting("dc").model_copy(update={"status": "failed", "reason": "its loss | is not finite"})
    table = Table([failed, waiting("dm", seed=3)])
    assert list(table.sentences()) == [
        "dc on cifar10 at 1, seed 0, failed: its loss | is not finite",
        "Not finished on cifar10 at 1: dm.",
    ]
    lines = table.markdown().splitlines()
    assert len({line.count("|") for line in lines[:4]}) == 1


def test_a_diverged_training_is_not_counted_as_an_accuracy() -> None:
    table = Table([record("dc", own=()), record("random", 0.5)])
    assert [row.method for row in table.rows] == ["random", "dc"]
    assert "| `dc` | diverged | diverged | diverged |" in table.markdown()


def test_the_csv_has_the_same_rows_with_every_figure_in_a_column_of_its_own() -> None:
    first, failed = csv.DictReader(
        io.StringIO(
            Table([record("dc", 0.2, 0.3), waiting("dm").model_copy(update={"status": "failed", "reason": "x"})]).csv()
        )
    )
    assert (first["method"], first["common convnet mean"], first["common mlp networks"]) == ("dc", "25.000", "2")
    assert (first["bytes"], first["published"], first["failed"]) == ("33000", "28.3", "")
    assert (failed["method"], failed["common convnet mean"], failed["failed"]) == ("dm", "", "x")


def test_the_plot_shows_every_data_set_and_budget_and_needs_a_finished_cell() -> None:
    other = record("dc", 0.3, 0.4)
    other = other.model_copy(update={"cell": other.cell.model_copy(update={"images_per_class": 10})})
    figure = accuracy_over_minutes(Table([record("random", 0.2, 0.3), other, waiting("dm")]))
    assert [axes.get_title() for axes in figure.axes] == ["cifar10, 1 image per class", "cifar10, 10 images per class"]
    assert to_bytes(figure, "png").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="needs a cell that is done"):
        accuracy_over_minutes(Table([waiting("dm")]))


def test_names_of_methods_with_equal_accuracies_do_not_overlap() -> None:
    assert apart([1.0, 5.0], 1, 9) == [1, 5]
    assert apart([4.0, 4.0, 4.5], 1, 9) == [4, 5, 6]
    assert apart([1.0, 8.5, 8.5, 8.5], 1, 9) == [1, 7, 8, 9]


def test_every_published_figure_is_an_accuracy_with_a_source() -> None:
    for entry in entries().values():
        assert entry.source
        assert all(size in {1, 10, 50} for sizes in entry.accuracies.values() for size in sizes)
    figure = published("dc-small", "mnist", 10)
    assert figure == published("dc", "mnist", 10) and figure is not None
    assert figure.accuracy == 97.4, "the survey's table has 94.7"
    assert published("dc", "mnist", 7) is None and published("principal", "mnist", 1) is None


def test_a_small_setting_belongs_to_a_method_of_the_authors() -> None:
    assert [name for name in METHODS if name.endswith(SMALL) and name.removesuffix(SMALL) not in METHODS] == []


def test_records_are_equal_when_read_back_and_malformed_ones_are_refused(tmp_path: Path) -> None:
    made = record("dc", 0.25)
    made.save(tmp_path)
    assert CellRecord.load(tmp_path) == made
    (tmp_path / "cell.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cell\.json is not the record of a cell"):
        CellRecord.load(tmp_path)
