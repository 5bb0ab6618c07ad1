"""Classifiers across many memories and from pictures, in their quick form, and what both rest on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import extrapolation, image_addressing
from benchmarks.extrapolation import RANDOM, RECALLED, Memories, RealPictures, drawn
from benchmarks.group_memories import groups_of
from benchmarks.smaller_data import one_of_each_group, shrunk
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.recall.training_set import BundleQuery, build_training_set
from tests.tolerances import assert_close
from trainer.data.datasets import load_dataset

CPU = torch.device("cpu")
SHORT = ["objective.steps=10", "objective.window=5", "retraining.steps=10"]
FEW = ["--quick", "--outer-steps", "2", *(word for each in SHORT for word in ("--set", each))]


def last_line(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five memories of two digits each, with the figures beside them."""
    path = tmp_path_factory.mktemp("memories")
    extrapolation.main([*FEW, "--bundles", str(path), "--results", str(path / "results.json")])
    return path


def test_extrapolation_keeps_memories_and_figures_and_makes_none_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = folder / "results.json"
    before = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    assert len(before) == 5
    stored = json.loads(results.read_text())
    stored["cells"][f"2-way {RECALLED}"]["accuracy"] = 0.125
    del stored["cells"][f"5-way {RANDOM}"]
    results.write_text(json.dumps(stored))
    (folder / "group-3.safetensors").unlink()
    extrapolation.main([*FEW, "--bundles", str(folder), "--results", str(results)])
    figures = last_line(capsys)
    assert len(figures["cells"]) == 6
    assert figures["cells"][f"2-way {RECALLED}"]["accuracy"] == 0.125
    assert figures["cells"][f"5-way {RANDOM}"]["tasks"] == 6
    after = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    assert {name: data for name, data in after.items() if name != "group-3.safetensors"} == {
        name: data for name, data in before.items() if name != "group-3.safetensors"
    }
    with pytest.raises(ValueError, match="has memories of another recipe"):
        extrapolation.main([*FEW, "--seed", "1", "--bundles", str(folder)])
    with pytest.raises(SystemExit, match="figures of another run"):
        extrapolation.main([*FEW, "--set", "objective.steps=9", "--results", str(results)])


def test_tasks_have_the_requested_number_of_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extrapolation.main([*FEW, "--bundles", str(folder), "--ways", "3"])
    assert {name.split()[0] for name in last_line(capsys)["cells"]} == {"3-way"}
    with pytest.raises(SystemExit, match="has 5 groups of classes"):
        extrapolation.main([*FEW, "--bundles", str(folder), "--ways", "6"])


def test_memories_are_combined_as_by_the_server(folder: Path) -> None:
    data = load_dataset("digits")
    bundles = {path.stem: MemoryBundle.load(path) for path in sorted(folder.glob("*.safetensors"))}
    own, chosen = Memories(bundles, data.classes, CPU), (7, 0, 4)
    images, space = own.as_recalled(chosen, seed=0)
    labels = [data.classes[number] for number in chosen]
    met = build_training_set(
        [BundleQuery(own.bundles[label], own.bundles[label].label_queries([label])[0]) for label in labels]
    )
    assert_close(images, met.images, terms=64)
    assert own.retraining == met.retraining
    pictures = data.validation.pixels()[:5]
    assert_close(space.to_model(pictures), met.preprocessing.to_model(pictures), terms=64)


def test_a_task_has_classes_of_different_memories() -> None:
    groups = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    tasks = drawn(groups, 5, 20, seed=0)
    assert all(sorted(number // 2 for number in task) == [0, 1, 2, 3, 4] for task in tasks)
    assert len(set(tasks)) > 10
    assert drawn(groups, 5, 20, seed=0) == tasks


def test_random_real_pictures_are_drawn_anew_for_each_task() -> None:
    data = load_dataset("digits")
    real = RealPictures(data.train, 10, CPU)
    images, space = real.some(2)((3, 8), 1)
    assert images.shape == (2, 2, 1, 8, 8)
    whole = space.to_model(real.pictures[3].float() / 255)
    assert all(any(torch.equal(image, other) for other in whole) for image in images[0])
    assert not torch.equal(images, real.some(2)((3, 8), 2)[0])


def test_classes_without_groups_are_grouped_in_order() -> None:
    assert groups_of(load_dataset("digits"), 4) == {
        "group 0": ("0", "1", "2", "3"),
        "group 1": ("4", "5", "6", "7"),
        "group 2": ("8", "9"),
    }


def test_shrunk_pictures_are_another_data_set_of_the_same_classes() -> None:
    digits = load_dataset("digits")
    half = shrunk(digits, 4)
    assert (half.name, half.image_shape, half.classes) == ("digits-4px", (1, 4, 4), digits.classes)
    assert half.digest not in {digits.digest, shrunk(digits, 5).digest}
    for before, after in ((digits.train, half.train), (digits.validation, half.validation), (digits.test, half.test)):
        assert torch.equal(after.labels, before.labels)
        means = before.pixels().mean(dim=(1, 2, 3)), after.pixels().mean(dim=(1, 2, 3))
        assert (means[0] - means[1]).abs().max() < 0.06, "what is dark stays dark"


def test_one_class_of_each_group_is_another_data_set_without_groups() -> None:
    groups = {"round": ("0", "8"), "straight": ("1", "7")}
    digits = replace(load_dataset("digits"), groups=groups)
    some = one_of_each_group(digits)
    assert (some.name, some.classes, some.groups) == ("digits-2", ("0", "1"), {})
    assert len(some.test) == int((digits.test.labels < 2).sum())
    assert some.digest != digits.digest
    with pytest.raises(ValueError, match="digits has no groups of classes"):
        one_of_each_group(load_dataset("digits"))


def test_few_classes_are_reused_until_there_are_enough_tasks() -> None:
    (tasks,) = image_addressing.tasks_of(load_dataset("digits"), 5, seed=0, tasks=20).values()
    assert len(tasks) == 20
    assert all(len(set(task)) == 5 for task in tasks)
    for deal in range(0, 20, 2):
        assert sorted(tasks[deal] + tasks[deal + 1]) == list(range(10)), "every deal has every class once"
    (few,) = image_addressing.tasks_of(load_dataset("digits"), 3, seed=0, tasks=4).values()
    assert len(few) == 4, "three of a deal, and one of the next"
    with pytest.raises(ValueError, match="digits has 10 classes, too few for a task of 11"):
        image_addressing.tasks_of(load_dataset("digits"), 11, seed=0)


def test_image_addressing_can_continue_a_memory(tmp_path: Path) -> None:
    digits = load_dataset("digits")
    few = image_addressing.read(FEW)
    first = image_addressing.distilled(digits, 5, few, tmp_path / "first", CPU)
    few.start = str(first)
    second = image_addressing.distilled(digits, 5, few, tmp_path / "second", CPU)
    made = MemoryBundle.load(second).manifest.provenance
    assert made.hyper_parameters["start_sha256"] == MemoryBundle.load(first).sha256
    assert image_addressing.distilled(digits, 5, few, second.parent, CPU) == second, "made once"
    with pytest.raises(ValueError, match="exists, but not from --start; choose another folder"):
        image_addressing.distilled(digits, 5, few, first.parent, CPU)
    few.start, few.method = None, "image-addressing-warm"
    with pytest.raises(ValueError, match="exists, by image-addressing; choose another folder"):
        image_addressing.distilled(digits, 5, few, first.parent, CPU)


def test_image_addressing_is_compared_with_baselines_at_both_numbers_of_shots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shortest = [*FEW, "--tasks", "1"]
    arguments = [*shortest, "--bundles", str(tmp_path)]
    image_addressing.main(arguments)
    figures = last_line(capsys)
    for shots in (1, 5):
        for name in image_addressing.NAMES:
            assert 0 < figures["cells"][f"random {shots}-shot {name}"]["accuracy"] <= 1
    (bundle,) = tmp_path.glob("*-5-shots.safetensors")
    before = bundle.read_bytes()
    image_addressing.main(arguments)
    assert last_line(capsys)["cells"] == figures["cells"], "the same memories, and the same episodes"
    assert bundle.read_bytes() == before
    image_addressing.main([*shortest, "--bundle", str(bundle), "--results", str(tmp_path / "results.json")])
    again = last_line(capsys)["cells"]
    assert again["random 5-shot recalled"] == figures["cells"]["random 5-shot recalled"]
    assert json.loads((tmp_path / "results.json").read_text())["cells"] == again
