"""The paper's experiments by name: all are there, each fits its budget, and rows differ in what they are about."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import StoredItems
from recall_server.core.networks import build_network
from tests.trainer.cli.test_command_line import SMALL, run
from trainer.data.datasets import LICENCES, ImageDataset, Split
from trainer.methods.paper import SETTINGS, Experiment, recipes
from trainer.methods.specs.budget import MemoryBudget

SHAPES = {
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "svhn": (3, 32, 32),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "tinyimagenet": (3, 64, 64),
}
CELLS = {"mnist": (1, 10, 50), "fashion-mnist": (1, 10, 50), "svhn": (1, 10, 50), "cifar10": (1, 10, 50)}


def empty(name: str) -> ImageDataset:
    """A data set of that shape without pictures."""
    split = Split(torch.zeros(1, *SHAPES[name], dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    classes = tuple(map(str, range(SETTINGS[name].classes)))
    return ImageDataset(name, classes, split, split, split, "", LICENCES[name])


def budget(recipe: Experiment) -> MemoryBudget:
    data = empty(recipe.dataset)
    return recipe.method.budget(data, images_per_class=recipe.images_per_class, bases=recipe.bases)


def names(table: str) -> set[str]:
    return {name.removeprefix(f"{table}/") for name in recipes() if name.startswith(f"{table}/")}


def test_every_cell_of_table_1_is_there() -> None:
    cells = {f"{dataset}/{size}" for dataset, sizes in CELLS.items() for size in sizes}
    assert names("table1") == cells | {"cifar100/1", "cifar100/10", "tinyimagenet/1"}


def test_every_row_of_the_other_tables_is_there() -> None:
    plain, augmented = ["bptt", "bptt+ds", "full"], ["bptt", "bptt+ds", "full-without-augmentation", "full"]
    colour = {
        f"{dataset}/{size}/{each}" for dataset in ("cifar10", "cifar100") for size in (1, 10) for each in augmented
    }
    colour |= {f"cifar10/50/{each}" for each in augmented}
    grey = {
        f"{name}/{size}/{each}" for name in ("mnist", "fashion-mnist", "svhn") for size in (1, 10, 50) for each in plain
    }
    assert names("table2") == colour
    assert names("table7") == colour | grey
    assert names("table6") == {f"{network}/{size}" for network in ("alexnet", "resnet", "convnet") for size in (1, 10)}
    momenta = ("no-momentum", "forward-only-momentum", "full-momentum")
    assert names("table8") == {f"{size}/{momentum}" for size in (1, 10) for momentum in momenta}
    assert {"cifar10/1/no-momentum", "svhn/100/full-momentum", "cifar10/10/full-momentum"} <= names("figure4")


@pytest.mark.parametrize("recipe", recipes().values(), ids=lambda recipe: recipe.name)
def test_every_recipe_fits_its_budget_and_its_networks_fit_the_pictures(recipe: Experiment) -> None:
    assert budget(recipe).rows >= 1
    shape, classes = SHAPES[recipe.dataset], SETTINGS[recipe.dataset].classes
    assert build_network(recipe.method.objective.network, shape, classes).shapes()
    assert build_network(recipe.method.retraining.network, shape, classes).shapes()
    assert all(10 < accuracy < 100 for accuracy in recipe.reported.values())


def test_the_authors_command_for_cifar10_is_table_1_s_cell() -> None:
    """16 bases, 115 rows, 150 steps of 32 rows a class, 640 real pictures."""
    recipe = recipes()["table1/cifar10/1"]
    method = recipe.method
    assert (recipe.bases, budget(recipe).rows) == (16, 115)
    fields = method.flat()
    inner = [fields[f"objective.{name}"] for name in ("steps", "window", "rows_per_class", "real_batch")]
    assert inner == [150, 150, 32, 640]
    assert (fields["objective.rate"], fields["objective.optimiser.momentum"]) == (0.01, 0.9)
    assert (method.outer.rate, method.outer.steps) == (0.1, 50_000)


def differing(one: str, other: str) -> dict[str, tuple[Any, Any]]:
    """Fields of two recipes' methods that are not the same, but for what follows from them for retraining."""
    first, second = (recipes()[name].method.flat() for name in (one, other))
    return {key: (first[key], second[key]) for key in first if first[key] != second[key]}


def test_the_rows_of_an_ablation_differ_only_in_its_subject() -> None:
    table = "table2/cifar10/1"
    assert differing(f"{table}/bptt", f"{table}/bptt+ds") == {"memory.resolution": ("full", "half")}
    without = differing(f"{table}/full-without-augmentation", f"{table}/full")
    assert without == {"objective.augmentation": ("none", "flip+rotate")}
    assert differing(f"{table}/full", "table1/cifar10/1") == {}
    assert differing("table8/1/no-momentum", "table8/1/full-momentum") == {"objective.optimiser.momentum": (0.0, 0.9)}
    forward = differing("table8/10/forward-only-momentum", "table8/10/full-momentum")
    assert forward == {"objective.optimiser.gradient": ("forward", "full")}
    length = {"objective.steps", "objective.window"}
    assert differing("figure4/svhn/1/full-momentum", "figure4/svhn/100/full-momentum").keys() == length
    assert differing("table6/convnet/1", "table6/resnet/1").keys() == {"objective.network"}
    assert differing("table1/cifar10/1", "table1/cifar10/50").keys() == length


def test_half_resolution_stores_four_times_as_many_pictures() -> None:
    known = recipes()
    assert budget(known["table7/cifar10/10/bptt"]).rows == 10
    assert budget(known["table7/cifar10/10/bptt+ds"]).rows == 40


def test_the_list_shows_the_settings_of_each_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    output = run("recipes", "table8").splitlines()
    assert len(output) == 1 + 6
    assert output[2].split() == [
        "table8/1/forward-only-momentum", "1", "pictures", "full", "zca", "none", "convnet", "3", "200", "10", "0.9",
        "forward", "convnet", "45.6",
    ]  # fmt: skip
    everything = json.loads(run("recipes", "--json"))
    assert {each["name"] for each in everything} == set(recipes())
    assert everything[0]["method"]["outer.steps"] == 50_000


def test_a_recipe_runs_on_other_pictures_and_with_other_fields(bars_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bars.safetensors"
    fields = [*SMALL, "--set", "preprocessing=standardise", "--set", "objective.steps=2", "--outer-steps", "1"]
    asked = ["--recipe", "table7/cifar10/10/bptt+ds", "--dataset", str(bars_folder), "--images-per-class", "1"]
    run("distill", *asked, "--output", str(path), *fields)
    bundle = MemoryBundle.load(path)
    assert isinstance(bundle.memory, StoredItems)
    assert (bundle.memory.rows, bundle.memory.stored.shape[3:]) == (4, (4, 4))
    assert bundle.memory.image_shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "tabel1/cifar10/1"], "there is no recipe 'tabel1/cifar10/1'; near it are table1/cifar10/1"),
        (["--recipe", "table1/cifar10/1", "--method", "window"], "is a method already; leave --method out"),
        ([], "name the pictures to distill, --dataset NAME or --dataset FOLDER, or a --recipe"),
    ],
)
def test_an_invalid_choice_is_refused(
    tmp_path: Path, arguments: list[str], message: str, refused: Callable[..., str]
) -> None:
    said = refused("distill", "--output", str(tmp_path / "x.safetensors"), *arguments)
    assert said.startswith("error: ") and message in said
    assert not list(tmp_path.iterdir())


def test_a_recipe_without_its_data_says_where_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setenv("RECALL_DATA", str(tmp_path))
    output = str(tmp_path / "x.safetensors")
    said = refused("distill", "--recipe", "table1/tinyimagenet/1", "--output", output)
    assert "unpack tiny-imagenet-200.zip" in said
