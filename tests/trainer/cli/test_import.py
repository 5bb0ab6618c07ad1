"""recall-trainer import: other people's images become bundles, and what cannot be one is refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.preprocessing import Standardise
from recall_server.errors import RecallError
from tests.tolerances import assert_close
from trainer.cli.app import app
from trainer.data.datasets import load_dataset

CLASSES = np.array(["top", "middle", "bottom"])


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(count, 8, 8, 1), dtype=np.uint8)


def archive(folder: Path, **changed: Any) -> Path:
    """A good archive of two images for each of three classes, but for what is changed."""
    arrays = {"images": images(), "labels": np.array([0, 1, 2, 2, 1, 0])} | changed
    np.savez(folder / "set.npz", **{name: value for name, value in arrays.items() if value is not None})
    return folder / "set.npz"


def imported(source: Path, *options: str) -> MemoryBundle:
    output = source.parent / "made.safetensors"
    ran = CliRunner().invoke(app, ["import", str(source), "--output", str(output), *options], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return MemoryBundle.load(output)


def pixels(bundle: MemoryBundle) -> Tensor:
    """What the labels recall, in pixel space, 0..255."""
    items = bundle.memory.items(torch.eye(len(bundle.labels)))
    return bundle.preprocessing.to_pixels(items.flatten(0, 1)).reshape(items.shape) * 255


def test_images_of_an_archive_are_recalled_by_their_labels(tmp_path: Path) -> None:
    bundle = imported(archive(tmp_path, classes=CLASSES))
    assert bundle.labels == ("top", "middle", "bottom")
    wanted = torch.from_numpy(images()[[0, 5, 1, 4, 2, 3]]).permute(0, 3, 1, 2).reshape(3, 2, 1, 8, 8)
    assert_close(pixels(bundle), wanted.float(), terms=8)
    assert bundle.manifest.budget.images_per_class == 2
    assert bundle.manifest.provenance.method == "import"


def test_a_bundle_of_a_known_data_set_can_be_evaluated_on_it(tmp_path: Path, bars_folder: Path) -> None:
    data = load_dataset(str(bars_folder))
    some = np.concatenate([data.train.of_class(label, 2).images.numpy() for label in range(3)])
    source = archive(tmp_path, images=some, labels=np.arange(6) // 2)
    bundle = imported(source, "--dataset", str(bars_folder), "--set", "network=mlp:hidden=16", "--set", "steps=40")
    assert bundle.labels == data.classes
    assert bundle.manifest.retraining.steps == 40
    fitted = Standardise.fit(data.train.images)
    assert torch.equal(bundle.preprocessing.tensors()["mean"], fitted.mean)
    command = ["evaluate", str(tmp_path / "made.safetensors"), "--dataset", str(bars_folder), "--runs", "1"]
    ran = CliRunner().invoke(app, [*command, "--protocol", "bundle"], catch_exceptions=False)
    assert ran.exit_code == 0 and "recalled" in ran.output


def test_the_pictures_of_class_folders_are_imported_and_resized(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for name, grey in (("dark", 20), ("light", 200)):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (20, 20), grey + number).save(folder / name / f"{number}.png")
    bundle = imported(folder, "--image-size", "10", "--per-class", "2")
    assert bundle.labels == ("dark", "light") and bundle.memory.item_shape == (1, 10, 10)
    assert_close(pixels(bundle)[:, :, 0, 0, 0], torch.tensor([[20.0, 21.0], [200.0, 201.0]]), terms=100)


def test_normalised_images_are_stored_unchanged_with_their_normalisation(tmp_path: Path) -> None:
    normalised = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    save_file({"images": normalised, "labels": torch.tensor([0, 0, 1, 1])}, tmp_path / "set.safetensors")
    options = ("--mean", "0.5,0.4,0.3", "--deviation", "0.2,0.2,0.1", "--classes", "cat,dog")
    bundle = imported(tmp_path / "set.safetensors", *options)
    assert torch.equal(bundle.memory.items(torch.eye(2)).flatten(0, 1), normalised)
    assert torch.equal(bundle.preprocessing.tensors()["deviation"], torch.tensor([0.2, 0.2, 0.1]))


SHARES = np.array([[0.8, 0.2], [0.3, 0.7]], dtype=np.float32)


@pytest.mark.parametrize(
    ("labels", "meaning", "form"),
    [(SHARES, None, "soft"), (np.log(SHARES), "logits", "soft"), (SHARES, "values", "unbounded")],
)
def test_soft_labels_become_the_targets_of_their_images(
    labels: np.ndarray, meaning: str | None, form: str, tmp_path: Path
) -> None:
    source = archive(tmp_path, images=images(2), labels=labels)
    bundle = imported(source, *(() if meaning is None else ("--labels", meaning)))
    assert bundle.memory.targets.form == form
    assert_close(bundle.memory.recall(torch.eye(2)).targets[:, 0], torch.from_numpy(SHARES), terms=4)
    assert bundle.manifest.retraining.loss == ("squared_error" if form == "unbounded" else "cross_entropy")
    assert bundle.manifest.budget.numbers_stored == 2 * 64 + 4


def test_one_hot_labels_are_hard_labels(tmp_path: Path) -> None:
    bundle = imported(archive(tmp_path, labels=np.eye(3)[[0, 1, 2, 2, 1, 0]]))
    assert bundle.memory.targets.form == "hard"


@pytest.mark.parametrize(
    ("changed", "options", "sentence"),
    [
        ({"labels": None}, [], "must be an archive of the arrays images and labels: KeyError"),
        ({"labels": np.array([0, 1])}, [], r"labels must be \[6\] or \[6, classes\]"),
        ({"labels": np.zeros(6)}, [], "must be whole numbers, not torch.float32"),
        ({"labels": np.array([0, 0, 0, 1, 1, 2])}, [], "between 1 and 3 images of a class.*say --per-class 1"),
        ({"labels": np.array([0, 0, 0, 2, 2, 2])}, [], "has 0 images of 1; a memory needs 1 of each class"),
        ({"labels": np.array([0, -1, 1, 1, 0, 1])}, [], "numbered from 0"),
        ({}, ["--per-class", "3"], "has 2 images of 0; a memory needs 3 of each class"),
        ({}, ["--classes", "a,b"], "has labels of 3 classes, but 2 names"),
        ({}, ["--classes", "a,b,b"], "two or more classes with different names"),
        ({}, ["--labels", "logits"], "one label per image, so there are no logits"),
        ({}, ["--labels", "chances"], "--labels must be probabilities, logits, values, not 'chances'"),
        (
            {"labels": 1.5 * np.eye(3)[[0, 1, 2, 2, 1, 0]]},
            [],
            "no probabilities, for example numbers with the sum 1.5; say --labels",
        ),
        ({"images": images() * 2.0}, [], "numbers from 0 to 5.1e.02, so its images are normalised"),
        ({"images": images() / 255 * np.nan}, [], "must be finite numbers"),
        ({"images": images()[..., [0, 0]]}, [], r"images must be \[N, H, W\].*not \[6, 8, 8, 2\]"),
        ({"images": images().astype(np.int32)}, [], "uint8 or floating-point numbers, not torch.int64"),
        ({}, ["--mean", "0.5"], "must be given together"),
        ({}, ["--mean", "0.5,0.5", "--deviation", "1,1"], r"one number per channel \(1\), not 2"),
        ({}, ["--image-size", "16"], "those of a file have their own"),
        ({}, ["--set", "stepps=3"], "there is no field 'stepps'"),
        ({}, ["--dataset", "digits"], "has 0 images of 3; a memory needs 1 of each class"),
        ({}, ["--dataset", "digits", "--classes", "a,b,c"], "the classes a, b, c, but digits has 0, 1, 2"),
    ],
)
def test_invalid_imports_are_refused_in_a_sentence(
    changed: dict[str, Any], options: list[str], sentence: str, tmp_path: Path
) -> None:
    source, output = archive(tmp_path, **changed), tmp_path / "made.safetensors"
    failed = CliRunner().invoke(app, ["import", str(source), "--output", str(output), *options])
    assert failed.exception is not None
    with pytest.raises(type(failed.exception), match=sentence):
        raise failed.exception
    assert isinstance(failed.exception, ValueError | RecallError) and not output.exists()


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "images.pt").write_bytes(b"cos\nsystem\n(S'touch harm'\ntR.")
    failed = CliRunner().invoke(app, ["import", str(tmp_path / "images.pt"), "--output", "made.safetensors"])
    assert "is a pickle, which can run code and is never loaded here" in str(failed.exception)


def test_an_existing_bundle_is_replaced_only_on_request(tmp_path: Path) -> None:
    imported(archive(tmp_path))
    again = ["import", str(tmp_path / "set.npz"), "--output", str(tmp_path / "made.safetensors")]
    assert "already exists" in str(CliRunner().invoke(app, again).exception)
    assert CliRunner().invoke(app, [*again, "--overwrite"]).exit_code == 0
