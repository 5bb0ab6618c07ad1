"""The command `evaluate`: any network and schedule, always with baselines, with every run in a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Projected
from recall_server.core.training.retraining import Retraining
from recall_server.errors import InvalidDataset
from tests.trainer.data_examples import bars
from trainer.cli.app import app
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.evaluation.protocol import Protocol
from trainer.evaluation.report import RECALLED, evaluate_bundle
from trainer.evaluation.results_file import evaluations, file_of, memory_digest
from trainer.methods.named import compose
from trainer.run.parallel.ray_tasks import RayTasks
from trainer.run.parallel.tasks import Here
from trainer.run.progress import RunLimits
from trainer.run.search.instant import instant
from trainer.run.setup.request import DistillRequest

RETRAINING = Retraining(
    network=NetworkSpec(filters=8, depth=2), steps=60, learning_rate=0.02, rows_per_class=8, decay="cosine"
)
TINY = ["--network", "convnet:filters=4,depth=1"]


@pytest.fixture(scope="module")
def made(bars_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of an instant memory of the bars, whose budget is two images per class."""
    path = tmp_path_factory.mktemp("made") / "bars.safetensors"
    dataset, method = load_dataset(str(bars_folder)), compose("principal", ["retraining.network=mlp:hidden=8"])
    budget = method.budget(dataset, images_per_class=2, bases=4, rows=None)
    request = DistillRequest(
        dataset, method, budget, path, seed=0, device=torch.device("cpu"), limits=RunLimits(0), resume=False
    )
    instant(request, [budget], moments=None, report=lambda sentence: None)
    return path.read_bytes()


@pytest.fixture
def bundle(made: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "bars.safetensors"
    path.write_bytes(made)
    return path


@pytest.fixture
def evaluate(bundle: Path, bars_folder: Path) -> Callable[..., str]:
    def call(*arguments: str, data: Path = bars_folder) -> str:
        protocol = [] if "--protocol" in arguments else ["--protocol", "paper"]
        result = CliRunner().invoke(app, ["evaluate", str(bundle), "--dataset", str(data), *protocol, *arguments])
        if result.exception:
            raise result.exception
        return result.output

    return call


def results(path: Path) -> dict[str, dict[str, Any]]:
    (evaluation,) = json.loads(path.read_text())["evaluations"]
    return {each["trained_on"].split(",")[0]: each for each in evaluation["results"]}


@pytest.mark.parametrize("network", ["convnet:filters=16,depth=2", "resnet", "alexnet", "mlp:hidden=8"])
def test_every_network_is_measured_beside_random_and_herded_pictures(
    evaluate: Callable[..., str], tmp_path: Path, network: str
) -> None:
    short = ["--steps", "1"] if network in ("resnet", "alexnet") else ["--epochs", "20"]
    evaluate("--network", network, "--runs", "2", *short, "--json", str(tmp_path / "e.json"))
    found = results(tmp_path / "e.json")
    assert list(found) == ["recalled", "random real images", "herded real images"]
    for each in found.values():
        assert len(each["accuracies"]) == 2
        assert each["mean"] == pytest.approx(sum(each["accuracies"]) / 2)
        assert each["spread"] == pytest.approx(float(np.std(each["accuracies"], ddof=1)))
        assert each["schedule"]["network"] == str(NetworkSpec.parse(network))
    if short[0] == "--epochs":
        assert found["recalled"]["mean"] > 0.5


@pytest.mark.process
def test_networks_that_a_ray_cluster_trains_have_the_same_accuracies(
    bundle: Path, bars_dataset: ImageDataset, ray_tasks: RayTasks
) -> None:
    here, there = (
        evaluate_bundle(
            bundle,
            bars_dataset,
            seeds=range(2),
            network="convnet:filters=4,depth=1",
            protocol=Protocol("paper", steps=20),
            record=False,
            device=torch.device("cpu"),
            compute=tasks.map,
            robust=0.1,
        )
        for tasks in (Here(), ray_tasks)
    )
    assert there == here
    assert len(here) == 5 and here[RECALLED].confusions is not None
    assert sum(map(sum, here[RECALLED].confusions)) == 2 * len(bars_dataset.test)


def test_an_epoch_uses_every_image_once() -> None:
    for rows, each_step in ((5, 5), (16, 8), (17, 8)):
        schedule = Protocol("bundle", epochs=10).schedule(RETRAINING, queries=3, rows=rows)
        assert schedule.steps == 10 * -(-rows // each_step)
    paper = Protocol("paper", epochs=100).schedule(RETRAINING, queries=10, rows=115)
    assert (paper.steps, paper.rows_per_class, paper.learning_rate) == (200, 64, 0.01)
    assert Protocol("paper").schedule(RETRAINING, queries=10, rows=115).steps == 600
    assert Protocol("bundle").schedule(RETRAINING, queries=3, rows=5) == RETRAINING


def test_steps_and_augmentation_hold_for_the_memory_and_for_its_baselines(
    evaluate: Callable[..., str], tmp_path: Path
) -> None:
    evaluate(*TINY, "--runs", "1", "--steps", "3", "--augmentation", "flip", "--json", str(tmp_path / "e.json"))
    for each in results(tmp_path / "e.json").values():
        assert (each["schedule"]["steps"], each["schedule"]["augmentation"]) == (3, "flip")


def test_networks_shrink_pictures_only_for_recalled_images_and_never_in_the_papers_protocol(
    evaluate: Callable[..., str], bundle: Path, tmp_path: Path
) -> None:
    """The paper's networks see pictures as they are, and so do those that real pictures train, whatever is asked."""
    half, full = "convnet:filters=4,depth=1,shrink=2", "convnet:filters=4,depth=1"
    made = MemoryBundle.load(bundle)
    schedule = made.manifest.retraining.model_copy(update={"network": NetworkSpec.parse(half), "steps": 3})
    manifest = made.manifest.model_copy(update={"retraining": schedule})
    MemoryBundle(manifest, made.memory, made.preprocessing).save(bundle)
    networks = []
    for protocol in ("bundle", "paper"):
        file = tmp_path / f"{protocol}.json"
        evaluate("--runs", "1", "--steps", "3", "--protocol", protocol, "--json", str(file))
        networks.append([each["schedule"]["network"] for each in results(file).values()])
    assert networks == [[half, full, full], [full, full, full]]


def test_a_modified_protocol_is_recorded_under_another_name(evaluate: Callable[..., str], bundle: Path) -> None:
    for arguments in (["--epochs", "2"], ["--steps", "2"], ["--steps", "2", "--augmentation", "flip"]):
        evaluate(*TINY, "--runs", "1", "--record", *arguments)
    protocols = [row.protocol for row in MemoryBundle.load(bundle).manifest.accuracy][-3:]
    assert protocols == ["paper, 2 epochs", "paper, 2 steps", "paper, 2 steps, augmentation flip"]
    kept = evaluations(file_of(bundle), memory_digest(MemoryBundle.load(bundle)))
    assert [each["protocol"] for each in kept] == protocols, "recording an accuracy leaves the memory what it was"


def test_the_default_protocol_is_the_bundles_own_for_a_folder_of_ones_own(bundle: Path, bars_folder: Path) -> None:
    command = ["evaluate", str(bundle), "--dataset", str(bars_folder), *TINY, "--runs", "1", "--steps", "2"]
    result = CliRunner().invoke(app, [*command, "--record"], catch_exceptions=False)
    assert MemoryBundle.load(bundle).manifest.accuracy[-1].protocol == "bundle, 2 steps"
    assert "95 % interval" in result.output


def test_rounding_of_unstored_bits_does_not_make_another_memory(bundle: Path) -> None:
    """The directions of a projection are computed from the bases, and differ with the number of threads."""
    made = MemoryBundle.load(bundle)
    assert isinstance(made.preprocessing, Projected)
    otherwise = replace(made.preprocessing, directions=made.preprocessing.directions.flip(0))
    assert memory_digest(replace(made, preprocessing=otherwise)) == memory_digest(made)


def test_a_repeated_measurement_replaces_the_old_one_and_a_new_memory_replaces_all(
    evaluate: Callable[..., str], bundle: Path, tmp_path: Path
) -> None:
    file = tmp_path / "e.json"
    for seed in ("0", "5"):
        evaluate(*TINY, "--runs", "1", "--steps", "2", "--seed", seed, "--json", str(file))
    (only,) = json.loads(file.read_text())["evaluations"]
    assert only["seeds"] == [5]
    assert not file_of(bundle).exists(), "nothing is written beside the bundle unless it is asked for"
    before = json.loads(file.read_text())
    file.write_text(json.dumps(before | {"memory_sha256": "0" * 64}))
    evaluate(*TINY, "--runs", "1", "--steps", "3", "--json", str(file))
    assert [each["protocol"] for each in json.loads(file.read_text())["evaluations"]] == ["paper, 3 steps"]


@pytest.mark.parametrize("content", ["my diary", "[]", '{"format": 2}', '{"format": 1, "evaluations": []}'])
def test_a_file_of_something_else_is_not_overwritten(
    evaluate: Callable[..., str], tmp_path: Path, content: str
) -> None:
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(ValueError, match=r"e\.json is not a file of evaluations"):
        evaluate(*TINY, "--runs", "1", "--steps", "1", "--json", str(tmp_path / "e.json"))
    assert (tmp_path / "e.json").read_text() == content


@pytest.mark.parametrize(("channels", "side"), [(3, 8), (1, 16)])
def test_pictures_of_another_shape_are_refused(
    evaluate: Callable[..., str], tmp_path: Path, channels: int, side: int
) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    for split, count in (("train", 30), ("test", 30)):
        images, labels = bars(count, seed=0)
        images = np.repeat(np.repeat(np.repeat(images, side // 8, 1), side // 8, 2), channels, 3)
        np.savez(folder / f"{split}.npz", images=images, labels=labels, classes=np.array(["top", "middle", "bottom"]))
    with pytest.raises(InvalidDataset, match=r"another image size than the data that bars was made from .*\(1, 8, 8\)"):
        evaluate(data=folder)
