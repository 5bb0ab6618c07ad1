"""The data set of a bundle that was made from photographs is read at the bundle's size, without options."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from recall_server.core.bundle.bundle import MemoryBundle
from tests.trainer.data_examples import picture_folder
from trainer.cli.app import app
from trainer.data.datasets import ImageDataset

FEW = "--outer-steps 1 --threads 1 --set objective.network=convnet:filters=8,depth=2 --set objective.eager=true"
FEW += " --set objective.steps=2 --set objective.window=1"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def photographs(root: Path, *names: str) -> Path:
    return picture_folder(root, *names, each=20, height=20, width=24)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder, bundle): a memory at 8 x 8."""
    root = tmp_path_factory.mktemp("photographs")
    folder = photographs(root / "bars", "high", "low", "middle")
    bundle = root / "bars.safetensors"
    size = ["--image-size", "8", "--images-per-class", "2", "--bases", "4"]
    run("distill", "--dataset", str(folder), "--output", str(bundle), *size, *FEW.split())
    return folder, bundle


def test_continuing_and_evaluating_use_the_image_size_of_the_bundle(started: tuple[Path, Path], tmp_path: Path) -> None:
    folder, bundle = started
    output = tmp_path / "better.safetensors"
    run("distill", "--dataset", str(folder), "--start", str(bundle), "--output", str(output), *FEW.split())
    assert MemoryBundle.load(output).manifest.image.shape == (1, 8, 8)
    assert "recalled" in run("evaluate", str(output), "--dataset", str(folder), "--runs", "1", "--epochs", "1")


def test_a_memory_with_an_added_class_is_continued_in_its_own_order(started: tuple[Path, Path], tmp_path: Path) -> None:
    _, bundle = started
    further = photographs(tmp_path / "all", "high", "low", "middle", "added")
    larger, output = tmp_path / "larger.safetensors", tmp_path / "better.safetensors"
    run("add-class", str(bundle), str(further / "added"), "--output", str(larger))
    run("distill", "--dataset", str(further), "--start", str(larger), "--output", str(output), *FEW.split())
    assert MemoryBundle.load(output).labels == ("high", "low", "middle", "added"), "a folder has its names sorted"
    assert "recalled" in run("evaluate", str(output), "--dataset", str(further), "--runs", "1", "--epochs", "1")


def test_classes_are_renumbered_with_their_pictures_and_others_come_last(bars_dataset: ImageDataset) -> None:
    ordered = bars_dataset.in_order_of(("bottom", "top"))
    assert ordered.classes == ("bottom", "top", "middle")
    for before, after in ((bars_dataset.train, ordered.train), (bars_dataset.test, ordered.test)):
        assert torch.equal(after.images, before.images)
        names = [bars_dataset.classes[label] for label in before.labels]
        assert [ordered.classes[label] for label in after.labels] == names
    assert ordered.digest == bars_dataset.digest


@pytest.mark.parametrize("labels", [("top", "middle"), ("top", "bottom"), ("bottom", "top", "unknown")])
def test_an_order_that_is_equal_or_impossible_changes_nothing(
    bars_dataset: ImageDataset, labels: tuple[str, ...]
) -> None:
    assert bars_dataset.in_order_of(labels) is bars_dataset
