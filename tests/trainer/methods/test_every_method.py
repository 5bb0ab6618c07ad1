"""What holds for every named method, one after another."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from recall_server.core.bundle.bundle import MemoryBundle
from tests.trainer.methods.every_method import EVERY_METHOD, SmallRun, distinct
from trainer.cli.app import app
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.methods.named import METHODS, compose
from trainer.methods.specs.spec import flattened
from trainer.run.distill import Interrupted
from trainer.run.progress import RunState
from trainer.run.validation import validate

every_method = pytest.mark.parametrize("name", METHODS)
every_run = pytest.mark.parametrize("name", distinct())


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    return load_dataset("digits")


@pytest.fixture(autouse=True)
def experts_of_all_tests(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What methods record into the cache is recorded once, and not into the user's own."""
    monkeypatch.setenv("RECALL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_method_is_in_the_table() -> None:
    assert EVERY_METHOD.keys() == METHODS.keys()


@every_method
def test_a_method_is_short_and_has_its_name_and_a_citation(name: str) -> None:
    method = METHODS[name]()
    assert method.name == name
    assert method.citation
    body = inspect.getsource(METHODS[name]).split('"""')[2]
    assert len(body.strip().splitlines()) <= 15


@every_method
def test_every_field_of_a_method_can_be_set_by_the_name_that_is_printed(name: str) -> None:
    method = compose(name)
    fields = flattened(method, lambda field: field in {"name", "citation"})
    assert compose(name, [f"{field}={value}" for field, value in fields.items()]) == method


@every_run
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name: str, bars_dataset: ImageDataset) -> None:
    first, again, other = (SmallRun(name, bars_dataset, seed=seed) for seed in (0, 0, 1))
    for run in (first, again, other):
        run.go()
    assert first.prepared().data == again.prepared().data
    assert not same(first.components.tensors(), other.components.tensors())


@pytest.mark.parametrize("name", [name for name in distinct() if METHODS[name]().outer.steps])
def test_a_killed_run_resumes_to_the_same_bytes(name: str, bars_dataset: ImageDataset, tmp_path: Path) -> None:
    def interrupt(progress: RunState) -> None:
        if progress.step == 2:
            raise Interrupted

    whole = SmallRun(name, bars_dataset, steps=4)
    whole.go()
    path = tmp_path / "run.checkpoint"
    killed = SmallRun(name, bars_dataset, steps=4, checkpoint=path)
    with pytest.raises(Interrupted):
        killed.go(report=interrupt)
    killed.distillation.save()
    resumed = SmallRun(name, bars_dataset, steps=4, checkpoint=path)
    resumed.distillation.resume(path)
    resumed.go()
    assert same(resumed.components.tensors(), whole.components.tensors())


@every_method
def test_a_memory_keeps_its_budget_and_is_equal_when_loaded(
    name: str, bars_dataset: ImageDataset, tmp_path: Path
) -> None:
    run = SmallRun(name, bars_dataset)
    prepared = run.prepared()
    budget = prepared.bundle.manifest.budget
    classes, numbers = len(bars_dataset.classes), bars_dataset.image_numbers
    assert budget.numbers_stored <= EVERY_METHOD[name].images_per_class * classes * numbers
    path = tmp_path / "small.safetensors"
    path.write_bytes(prepared.data)
    loaded = MemoryBundle.load(path)
    assert loaded.to_bytes() == prepared.data
    queries = torch.randn(2, loaded.memory.query_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.memory.items(queries), run.components.memory.items(queries))


@every_run
def test_a_method_does_better_than_chance_on_digits(name: str, digits: ImageDataset) -> None:
    run = SmallRun(name, digits, steps=15)
    run.go()
    chance = 1 / len(digits.classes) if not run.components.queries.shots else 1 / 2
    assert validate(run.components, digits, run.method, run.space).mean > chance + 0.15


def test_the_command_lists_methods_and_prints_one_completely() -> None:
    listed = CliRunner().invoke(app, ["methods"]).output.splitlines()
    names = [line.split()[0] for line in listed]
    assert names == [*METHODS, "features", "exact", "private"], "the last three take features of an encoder"
    printed = CliRunner().invoke(app, ["methods", "rtp", "--set", "objective.steps=160"]).output
    assert "rtp: Deng and Russakovsky" in printed
    assert "\n  objective.steps=160\n" in printed


@pytest.mark.parametrize("images_per_class", [1, 3])
def test_a_budget_can_be_enlarged_by_the_numbers_of_learned_targets(
    images_per_class: int, bars_dataset: ImageDataset
) -> None:
    hard, learned = compose("frepo", ["memory.targets=hard", "retraining.loss=cross_entropy"]), compose("frepo")
    assert hard.images_with_targets(bars_dataset, images_per_class) == images_per_class
    with pytest.raises(ValueError, match="stored items of each class do not fit.*with unbounded targets they take"):
        learned.budget(bars_dataset, images_per_class=images_per_class, bases=0, rows=images_per_class)
    enough = learned.images_with_targets(bars_dataset, images_per_class)
    budget = learned.budget(bars_dataset, images_per_class=enough, bases=0)
    assert budget.rows == images_per_class
    assert enough == pytest.approx(images_per_class * (64 + 3) / 64)
