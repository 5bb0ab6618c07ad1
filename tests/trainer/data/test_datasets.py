"""Data sets: splits never overlap, and a name always means the same data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from recall_server.errors import InvalidDataset
from tests.trainer.data_examples import Library, archives, rows
from trainer.data.datasets import LICENCES, ImageDataset, Split, load_dataset


def test_train_validation_and_test_never_share_a_picture(bars_dataset: ImageDataset) -> None:
    train, validation, test = (
        rows(part.images) for part in (bars_dataset.train, bars_dataset.validation, bars_dataset.test)
    )
    assert len(train) + len(validation) + len(test) == 150
    assert not (train & validation or train & test or validation & test)


def test_the_split_is_the_same_for_the_same_seed_and_another_for_another(bars_folder: Path) -> None:
    first, again, other = (load_dataset(str(bars_folder), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.validation.images, again.validation.images)
    assert not torch.equal(first.validation.images, other.validation.images)


def test_every_class_is_in_every_split(bars_dataset: ImageDataset) -> None:
    for part in (bars_dataset.train, bars_dataset.validation, bars_dataset.test):
        assert set(part.labels.tolist()) == {0, 1, 2}


def test_digits_need_no_download() -> None:
    digits = load_dataset("digits")
    assert digits.image_shape == (1, 8, 8)
    assert len(digits.train) + len(digits.validation) + len(digits.test) == 1797
    assert digits.train.images.max() == 255


def test_a_name_is_looked_for_in_the_data_folder_first(bars_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECALL_DATA", str(bars_folder.parent))
    assert load_dataset(bars_folder.name).classes == ("top", "middle", "bottom")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidDataset, match="neither a folder nor one of the known data sets: digits, mnist"):
        load_dataset("imagenet-22k")


def test_an_image_size_is_refused_for_data_of_fixed_size(bars_folder: Path) -> None:
    for source in (str(bars_folder), "digits"):
        with pytest.raises(InvalidDataset, match="the image size can only be chosen for a folder of pictures"):
            load_dataset(source, image_size=16)


def test_the_digest_depends_only_on_the_data(tmp_path: Path) -> None:
    folder = archives(tmp_path / "data")
    first, other_seed = (load_dataset(str(folder), seed=seed) for seed in (0, 1))
    assert not torch.equal(first.validation.images, other_seed.validation.images)
    assert first.digest == other_seed.digest
    images = np.random.default_rng(0).integers(0, 256, size=(8, 8, 8), dtype=np.uint8)
    changed = images.copy()
    changed[0, 0, 0] ^= 1
    others = [
        archives(tmp_path / "classes", classes=np.array(["a", "c"])),
        archives(tmp_path / "shape", images=images.reshape(8, 4, 16)),
        archives(tmp_path / "pixel", images=changed),
        archives(tmp_path / "labels", labels=1 - np.arange(8) % 2),
        archives(tmp_path / "test", test={"images": changed}),
    ]
    assert len({first.digest, *(load_dataset(str(other)).digest for other in others)}) == 6


def test_a_known_name_means_the_data_set_and_never_a_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECALL_DATA", raising=False)
    archives(tmp_path / "digits")
    assert load_dataset("digits").licence == LICENCES["digits"]
    assert len(load_dataset("digits").classes) == 10
    mine = load_dataset("./digits")
    assert (mine.name, mine.classes, mine.licence) == ("digits", ("a", "b"), "unknown: the owner's own")
    archives(tmp_path / "data" / "digits", classes=np.array(["shared", "data"]))
    monkeypatch.setenv("RECALL_DATA", str(tmp_path / "data"))
    shared = load_dataset("digits")
    assert (shared.name, shared.classes, shared.licence) == ("digits", ("shared", "data"), LICENCES["digits"])
    assert load_dataset(str(tmp_path / "data" / "digits")).licence == "unknown: the owner's own"


def test_an_empty_folder_shadows_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECALL_DATA", str(tmp_path / "data"))
    for folder in ("digits", "mine", "data/digits"):
        (tmp_path / folder).mkdir(parents=True)
    assert load_dataset("digits").image_shape == (1, 8, 8)
    with pytest.raises(InvalidDataset, match="the folder 'mine' is empty"):
        load_dataset("mine")
    archives(tmp_path / "data" / "mine")
    assert load_dataset("mine").classes == ("a", "b")
    assert load_dataset("mine").licence == "unknown: the owner's own"


def test_an_empty_name_does_not_mean_the_working_directory(bars_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bars_folder)
    monkeypatch.setenv("RECALL_DATA", str(bars_folder))
    with pytest.raises(InvalidDataset, match="'' is neither a folder nor"):
        load_dataset("")
    assert load_dataset(".").name == bars_folder.name


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Library]:
    monkeypatch.setenv("RECALL_DATA", str(tmp_path))
    monkeypatch.setattr(Library, "made", [], raising=False)
    for name in ("MNIST", "SVHN"):
        monkeypatch.setattr(f"torchvision.datasets.{name}", Library)
    return Library


def in_order(train: Split, validation: Split) -> set[tuple[bytes, int]]:
    return {
        (image.numpy().tobytes(), int(label))
        for part in (train, validation)
        for image, label in zip(part.images, part.labels, strict=True)
    }


@pytest.mark.parametrize(
    ("name", "halves", "shape", "first"),
    [("mnist", [True, False], (1, 6, 5), "0 - name"), ("svhn", ["train", "test"], (3, 6, 5), "0")],
)
def test_torchvision_s_data_sets_are_read(
    library: type[Library], name: str, halves: list[object], shape: tuple[int, int, int], first: str
) -> None:
    dataset = load_dataset(name)
    assert library.made == [(Path(os.environ["RECALL_DATA"]), half) for half in halves]
    assert (dataset.image_shape, dataset.licence, dataset.classes[0]) == (shape, LICENCES[name], first)
    assert (len(dataset.train) + len(dataset.validation), len(dataset.test)) == (40, 20)
    pictures = (np.arange(40 * np.prod(shape)) % 251).astype(np.uint8).reshape(40, *shape)
    assert in_order(dataset.train, dataset.validation) == {
        (picture.tobytes(), number % 10) for number, picture in enumerate(pictures)
    }


def test_a_failed_download_names_its_folder(library: type[Library], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "error", OSError("no route"))
    with pytest.raises(InvalidDataset, match=r"mnist could not be downloaded to .*: no route"):
        load_dataset("mnist")
