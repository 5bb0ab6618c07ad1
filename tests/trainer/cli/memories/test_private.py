"""`distill --method private`: the promise is in the manifest and on the card, and nothing else tells of one picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.reports.bundle_card import bundle_card
from tests.trainer.cli.test_command_line import run
from tests.trainer.data.encoders.test_standard_form import SCALING, description, tower
from tests.trainer.data_examples import picture_folder
from trainer.data.datasets import load_dataset
from trainer.data.encoders.standard_form import standard_form


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of `distill` for a private memory of a folder, NAME.safetensors in the working directory."""
    monkeypatch.setenv("RECALL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    encoders = tmp_path / "artifacts" / "encoders"
    encoders.mkdir(parents=True)
    (encoders / "efficientnet-lite0.onnx").write_bytes(standard_form(tower(), SCALING, description()))
    picture_folder(tmp_path / "bars", "high", "middle", "low", each=40)
    output = tmp_path / "artifacts" / "bundles" / "secret.safetensors"
    return [
        "distill",
        "--dataset",
        "bars",
        "--encoder",
        "efficientnet-lite0",
        "--method",
        "private",
        "--output",
        f"{output}",
    ]


def test_the_promise_is_in_the_manifest_and_on_the_card(private: list[str]) -> None:
    output = run(*private, "--set", "epsilon=4", "--set", "delta=1e-6", "--set", "clip=2", "--images-per-class", "3")
    assert "epsilon 4 at delta 1e-06" in output
    bundle = MemoryBundle.load(private[-1])
    settings = bundle.manifest.provenance.hyper_parameters
    assert (settings["epsilon"], settings["delta"], settings["clip"]) == (4.0, 1e-6, 2.0)
    assert settings["privacy_unit"] == "one training picture, added or removed"
    card = bundle_card(bundle)
    promise = (
        "differential privacy with epsilon 4.0 and delta 1e-06 hides one training picture, added or removed, by "
        "vectors of length 2.0 at most and noise of the operating system"
    )
    assert card.count(promise) == 2
    assert "There is no privacy guarantee" not in card


def test_what_else_the_manifest_says_is_noisy_or_left_out(private: list[str], refused: Callable[..., str]) -> None:
    run(*private, "--images-per-class", "3")
    made = MemoryBundle.load(private[-1]).manifest
    assert "validation_accuracy" not in made.provenance.hyper_parameters
    data = load_dataset("bars")
    assert made.provenance.dataset_sha256 != data.digest
    first = made.provenance.dataset_sha256, made.provenance.hyper_parameters["pictures_per_class"]
    run(*private, "--images-per-class", "3", "--overwrite")
    again = MemoryBundle.load(private[-1]).manifest
    second = again.provenance.dataset_sha256, again.provenance.hyper_parameters["pictures_per_class"]
    assert first[0] != second[0] and first[1] != second[1]
    said = refused("evaluate", private[-1], "--dataset", "bars")
    assert "secret is private, and its manifest does not say which pictures it was made from" in said


def test_noise_of_a_known_seed_is_no_promise(private: list[str]) -> None:
    run(*private, "--set", "noise_seed=1", "--images-per-class", "3")
    bundle = MemoryBundle.load(private[-1])
    assert "nothing is promised" in str(bundle.manifest.provenance.hyper_parameters["noise"])
    assert "There is no privacy guarantee" in bundle_card(bundle)
    run(*private, "--set", "noise_seed=1", "--images-per-class", "3", "--overwrite")
    again = MemoryBundle.load(private[-1])
    assert again.memory.tensors()["bases"].equal(bundle.memory.tensors()["bases"])


def test_a_class_that_is_added_is_not_private_and_ends_the_promise(private: list[str], tmp_path: Path) -> None:
    run(*private, "--images-per-class", "9")
    more = picture_folder(tmp_path / "more", "none", "edge")
    run("add-class", private[-1], f"{more / 'edge'}", "--overwrite")
    larger = MemoryBundle.load(private[-1])
    assert larger.labels[-1] == "edge" and "epsilon" not in larger.manifest.provenance.hyper_parameters
    assert "There is no privacy guarantee" in bundle_card(larger)


@pytest.mark.parametrize(
    ("further", "sentence"),
    [
        (["--set", "epsilon=0"], "epsilon: Input should be greater than 0"),
        (["--set", "delta=1"], "delta: Input should be less than 1"),
        (["--set", "epsilon=1e13"], "promise nothing"),
        (["--set", "sigma=1"], "there is no field 'sigma'; there are epsilon, delta, clip, noise_seed"),
        (["--method", "exact", "--set", "epsilon=1"], "there is no field 'epsilon'; there are ridge, balance"),
        (["--images-per-class", "0.01"], "fewer than the 3 that 3 classes take; say more --images-per-class"),
    ],
)
def test_what_cannot_be_promised_is_refused(
    private: list[str], refused: Callable[..., str], further: list[str], sentence: str
) -> None:
    assert sentence in " ".join(refused(*private, *further).split())
    assert not Path(private[-1]).exists()
