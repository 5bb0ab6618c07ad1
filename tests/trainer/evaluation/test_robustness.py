"""Accuracy under attack: what an attack leaves, that gradients are not masked, and what users read about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.reports.bundle_card import bundle_card
from tests.trainer.cli.test_command_line import run
from trainer.data.datasets import ImageDataset, Split, load_dataset
from trainer.evaluation.evaluate import predict
from trainer.evaluation.robustness import under
from trainer.objectives.attacks import NoAttack, ProjectedGradient

DIGITS = Path("artifacts/bundles/digits.safetensors")


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def classifier() -> FreshClassifier:
    bundle = MemoryBundle.load(DIGITS)
    images, targets = bundle.recall_lazily(bundle.label_queries(bundle.labels))
    shape = bundle.manifest.image.shape
    found = FreshClassifier(bundle.labels, shape, bundle.preprocessing, bundle.manifest.retraining)
    return found.fit(images, targets)


def share(classifier: FreshClassifier, split: Split, epsilon: float, steps: int = 20, restarts: int = 1) -> float:
    predicted = under(ProjectedGradient(epsilon, steps), restarts=restarts)(classifier, split)
    return float((predicted == split.labels).float().mean())


def test_a_larger_epsilon_leaves_less_until_nothing_is_left(classifier: FreshClassifier, digits: ImageDataset) -> None:
    split = digits.validation
    clean = float((predict(classifier, split) == split.labels).float().mean())
    found = [share(classifier, split, epsilon) for epsilon in (0.02, 0.1, 0.5)]
    assert clean >= found[0] > found[1] >= found[2] == 0, "gradients that were masked would leave some"


def test_more_steps_and_restarts_find_little_more(classifier: FreshClassifier, digits: ImageDataset) -> None:
    once = share(classifier, digits.validation, 0.05)
    assert once - 0.05 <= share(classifier, digits.validation, 0.05, steps=60) <= once + 0.02
    assert once - 0.05 <= share(classifier, digits.validation, 0.05, restarts=3) <= once


def test_no_attack_is_the_plain_prediction(classifier: FreshClassifier, digits: ImageDataset) -> None:
    assert under(NoAttack()) is predict


def test_evaluate_shows_both_accuracies_beside_those_of_real_pictures(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    said = run("evaluate", str(DIGITS), "--dataset", "digits", "--protocol", "bundle", "--runs", "1", "--robust", "0.1",
               "--json", str(file))  # fmt: skip
    assert "with and without an attack" in said
    (measured,) = json.loads(file.read_text())["evaluations"]
    found = {each["trained_on"]: each["mean"] for each in measured["results"]}
    assert found["recalled, under PGD-20 at 0.1"] < found["recalled"]
    assert "random real images, same number of floats, under PGD-20 at 0.1" in found


def test_a_memory_says_that_it_was_distilled_with_an_attack(tmp_path: Path) -> None:
    output = tmp_path / "robust.safetensors"
    small = [f"--set={part}.network=convnet:filters=8,depth=1" for part in ("objective", "retraining")]
    run("distill", "--dataset", "digits", "--output", str(output), "--images-per-class", "1", "--outer-steps", "2",
        "--set", "objective.attack=pgd", "--set", "objective.attack.epsilon=0.1", *small)  # fmt: skip
    bundle = MemoryBundle.load(output)
    settings = bundle.manifest.provenance.hyper_parameters
    assert (settings["objective.attack.kind"], settings["objective.attack.epsilon"]) == ("pgd", 0.1)
    assert "with an attack (PGD, 3 steps) within an epsilon of 0.1" in bundle_card(bundle)
    assert "attack" not in bundle_card(MemoryBundle.load(DIGITS))


@pytest.mark.parametrize("option, value", [("--robust", "0.1"), ("--ray", "127.0.0.1:1")])
def test_what_needs_labels_is_refused_before_the_data_set_is_read(
    option: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RECALL_DATA", str(tmp_path / "file"))  # no data set can be read or put there
    with pytest.raises(ValueError, match=f"is addressed by pictures; .*: leave {option} out"):
        run("evaluate", "artifacts/bundles/fashion-mnist-images.safetensors", "--dataset", "fashion-mnist",
            option, value)  # fmt: skip
