"""`--start`: a memory that pictures address is gone on from with its encoder, and nothing of what was is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.networks import NetworkSpec
from tests.recall_server.bundle_examples import example_bundle
from tests.tolerances import assert_close
from tests.trainer.cli.test_command_line import SMALL, distill, run, with_encoder
from trainer.cli import commands
from trainer.data.datasets import load_dataset
from trainer.methods.named import compose
from trainer.methods.specs.budget import MemoryBudget, Size
from trainer.methods.specs.starts import NoiseStart
from trainer.run.progress import RunLimits
from trainer.run.setup.request import DistillRequest
from trainer.run.setup.starting_point import StartingPoint

PICTURES = "--method image-addressing --set objective.classes_per_step=2 --set queries.shots=2".split()
ENCODER = "--set queries.size=5 --set queries.encoder=convnet:filters=4,depth=2".split()


@pytest.fixture(scope="module")
def distilled(bars_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory addressed by pictures, of one step."""
    path = tmp_path_factory.mktemp("distilled") / "bars.safetensors"
    run(*distill(bars_folder, path, *PICTURES, *ENCODER, "--outer-steps", "1", "--rows", "6"))
    return path


@pytest.fixture
def first(distilled: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(distilled.parent, tmp_path / "first") / distilled.name


def further(data: Path, start: Path, output: Path, *arguments: str) -> list[str]:
    """The command that goes on from a bundle."""
    return ["distill", "--dataset", str(data), "--output", str(output), *SMALL, "--start", str(start), *arguments]


def test_a_memory_addressed_by_pictures_is_continued_with_its_encoder(
    first: Path, bars_folder: Path, tmp_path: Path
) -> None:
    """Steps too small to change anything: what comes out is what it began from, in a run of its own."""
    second = tmp_path / "second" / "bars.safetensors"
    still = "--outer-steps 1 --set outer.rate=1e-12 --set outer.rates.encoder=1e-12".split()
    run(*further(bars_folder, first, second, *PICTURES, *still))
    (before, encoder), (after, again) = with_encoder(first), with_encoder(second)
    assert after.manifest.provenance.hyper_parameters["start_sha256"] == before.sha256
    pictures = torch.rand(3, 1, 8, 8).numpy()
    queries = torch.from_numpy(encoder.encode(pictures))
    assert_close(torch.from_numpy(again.encode(pictures)), queries, terms=64)
    assert_close(after.memory.items(queries), before.memory.items(queries), terms=64)


def test_continuing_in_place_keeps_an_encoder_that_a_copy_refers_to(first: Path, bars_folder: Path) -> None:
    copy = Path(shutil.copy(first, first.with_name("copy.safetensors")))
    run(*further(bars_folder, first, first, *PICTURES, "--outer-steps", "3", "--validate-every", "1"))
    for path in (first, copy):
        bundle, encoder = with_encoder(path)
        assert encoder.query_size == bundle.memory.query_size


def test_bundles_that_cannot_be_continued_are_refused_with_a_suggestion(
    first: Path, bars_folder: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    start = further(bars_folder, first, tmp_path / "second.safetensors", "--outer-steps", "1")
    said = refused(*start)
    assert "is addressed by images, not by labels; go on from it with --method image-addressing" in said
    said = refused(*start, *PICTURES, "--set", "queries.size=4")
    assert "--set queries.encoder=... and --set queries.size=... must be those of its distillation" in said
    assert "has learned already" in refused(*start, *PICTURES, "--set", "queries.pretraining_steps=3")
    for file in encoder_folder(first).iterdir():
        file.unlink()
    assert "is missing from the folder encoders" in refused(*start, *PICTURES)
    assert not (tmp_path / "second.safetensors").exists()


def test_continued_pretrained_networks_start_from_the_encoder(bars_folder: Path, tmp_path: Path) -> None:
    """However wide the method's own networks are."""
    same = [
        f"{field}=convnet:filters=4,depth=2" for field in ("objective.network", "retraining.network", "queries.encoder")
    ]
    warm = tmp_path / "warm" / "bars.safetensors"
    small = ["objective.steps=4", "objective.window=2", "objective.real_batch=12", "retraining.steps=40"]
    made = ["queries.size=5", "queries.pretraining_steps=2", *same, *small]
    made = [part for each in made for part in ("--set", each)]
    new = ["distill", "--dataset", str(bars_folder), "--output", str(warm), *PICTURES, *made, "--outer-steps", "1"]
    run(*new, "--images-per-class", "100", "--bases", "3", "--method", "image-addressing-warm")
    begin = StartingPoint.read(str(warm))
    again = begin.method("image-addressing-warm", ["objective.classes_per_step=2"])
    assert (again.retraining.initial, again.flat()["queries.pretraining_steps"]) == ("encoder", 0)
    assert again.flat()["queries.encoder"] == "convnet:filters=4,depth=2"
    assert again.objective.network == again.retraining.network == NetworkSpec(filters=4, depth=2)
    cold = begin.method("image-addressing", ["objective.classes_per_step=2"])
    assert cold.retraining == compose("image-addressing").retraining, "the method says how classifiers begin"
    assert cold.flat()["queries.encoder"] == again.flat()["queries.encoder"]
    with pytest.raises(ValueError, match="go on from it with --method image-addressing-warm"):
        run(*further(bars_folder, warm, tmp_path / "second.safetensors", "--outer-steps", "1"))


def test_a_start_without_its_encoder_is_refused(first: Path, bars_folder: Path, tmp_path: Path) -> None:
    bundle, data = MemoryBundle.load(first), load_dataset(str(bars_folder))
    method = StartingPoint.read(str(first)).method("image-addressing", ["objective.classes_per_step=2"])
    request = DistillRequest(
        dataset=data,
        method=method,
        budget=MemoryBudget.of_bundle(bundle, Size()),
        output=tmp_path / "second.safetensors",
        seed=0,
        device=torch.device("cpu"),
        limits=RunLimits(1),
        resume=False,
        begin=StartingPoint(bundle=bundle),
    )
    with pytest.raises(ValueError, match="takes its bundle and its encoder"):
        commands.distill(request)


def test_an_unknown_encoder_in_a_manifest_is_ignored(first: Path) -> None:
    """What is no network is not taken for one; the method's own stands, and the file is checked against it."""
    bundle = MemoryBundle.load(first)
    assert StartingPoint.read(str(first)).defaults == (
        "queries.size=5",
        "queries.pretraining_steps=0",
        "queries.encoder=convnet:filters=4,depth=2",
    )
    for text in ("", "a network", "convnet:filters=0", 7):
        made = bundle.manifest.provenance
        made = made.model_copy(update={"hyper_parameters": made.hyper_parameters | {"queries.encoder": text}})
        MemoryBundle(bundle.manifest.model_copy(update={"provenance": made}), bundle.memory, bundle.preprocessing).save(
            first
        )
        assert StartingPoint.read(str(first)).defaults == ("queries.size=5", "queries.pretraining_steps=0")


@pytest.mark.parametrize("rates", [(), (0.1, 0.01)])
def test_the_schedule_of_the_start_is_kept_unless_the_method_has_its_own(
    tmp_path: Path, rates: tuple[float, ...]
) -> None:
    path = tmp_path / "half.safetensors"
    network = NetworkSpec(filters=8, depth=1, shrink=2)
    asked = example_bundle().manifest.retraining.model_copy(
        update={"network": network, "steps": 7, "augmentation": "flip", "rates": rates}
    )
    example_bundle(retraining=asked).save(path)
    begin = StartingPoint.read(str(path))
    method = begin.method("window", ["objective.network=convnet:filters=4"])
    assert method.retraining == asked
    assert method.objective.augmentation == "flip"
    assert begin.method("window", []).objective.network == compose("window").objective.network.shrinking(2)
    assert begin.method("window", ["retraining.steps=9", "objective.augmentation=none"]).retraining.steps == 9
    assert begin.method("rtp", []).retraining == compose("rtp").retraining
    assert begin.method("rtp", []).objective == compose("rtp").objective


def test_the_start_option_overrides_the_start_of_the_method(tmp_path: Path) -> None:
    assert StartingPoint.read(None) == StartingPoint()
    assert StartingPoint.read("noise").method("window", ["start=principal"]).start == NoiseStart(), (
        "--start has the last word"
    )
    path = tmp_path / "labels.safetensors"
    example_bundle().save(path)
    begin = StartingPoint.read(str(path))
    assert (begin.fields, begin.defaults, begin.encoder) == (("start=bundle",), (), None)
