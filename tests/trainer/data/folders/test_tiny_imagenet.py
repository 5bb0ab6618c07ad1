"""Tiny ImageNet in the layout of its archive, and groups of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recall_server.errors import InvalidDataset
from trainer.data.datasets import LICENCES, load_dataset
from trainer.data.superclasses import CIFAR_100, groups_of

IDS = ("n01", "n02", "n03")


def picture(path: Path, level: int, *, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (64, 64), level if mode == "L" else (level, 255 - level, 0)).save(path, format="JPEG")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three classes, two of them called crane, with four pictures to train on and one to test on."""
    folder = tmp_path / "tinyimagenet"
    folder.mkdir()
    (folder / "wnids.txt").write_text("\n".join(IDS) + "\n")
    words = {"n01": "crane", "n02": "crane, derrick", "n03": "goldfish, Carassius auratus", "n99": "not here"}
    (folder / "words.txt").write_text("".join(f"{each}\t{names}\n" for each, names in words.items()))
    for position, each in enumerate(IDS):
        for number in range(4):
            picture(folder / "train" / each / "images" / f"{each}_{number}.JPEG", 80 * position + number)
        picture(folder / "val" / "images" / f"val_{position}.JPEG", 80 * position, mode="L" if position else "RGB")
    (folder / "val" / "val_annotations.txt").write_text(
        "".join(f"val_{position}.JPEG\t{each}\t0\t0\t62\t62\n" for position, each in enumerate(IDS))
    )
    (folder / "test" / "images").mkdir(parents=True)
    return folder


def test_tiny_imagenet_is_read_by_its_name_and_by_its_folder(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECALL_DATA", str(archive.parent))
    named = load_dataset("tinyimagenet")
    assert (named.licence, named.image_shape) == (LICENCES["tinyimagenet"], (3, 64, 64))
    assert named.classes == ("crane (n01)", "crane (n02)", "goldfish")
    assert (len(named.train), len(named.validation), named.test.labels.tolist()) == (9, 3, [0, 1, 2])
    reds = named.train.images[:, 0].float().mean(dim=(1, 2))
    assert ((reds / 80).floor().long().clamp(0, 2) - named.train.labels).abs().max() <= 1, "each under its own class"
    by_folder = load_dataset(str(archive))
    assert (by_folder.digest, by_folder.licence) == (named.digest, "unknown: the owner's own")


def test_missing_and_damaged_files_are_named(archive: Path) -> None:
    broken = archive / "train" / "n02" / "images" / "n02_1.JPEG"
    kept = broken.read_bytes()
    broken.write_bytes(b"not a picture")
    with pytest.raises(InvalidDataset, match=r"n02_1\.JPEG is no .* picture"):
        load_dataset(str(archive))
    broken.write_bytes(kept)
    annotations = archive / "val" / "val_annotations.txt"
    annotations.write_text("val_0.JPEG\tn77\t0\t0\n")
    with pytest.raises(InvalidDataset, match=r"val_annotations\.txt has the class 'n77', which is not in wnids\.txt"):
        load_dataset(str(archive))
    annotations.write_text("val_9.JPEG\tn01\t0\t0\n")
    with pytest.raises(InvalidDataset, match=r"val_9\.JPEG cannot be read: No such file"):
        load_dataset(str(archive))
    annotations.unlink()
    with pytest.raises(InvalidDataset, match=r"Tiny ImageNet's val_annotations\.txt cannot be read"):
        load_dataset(str(archive))


def test_a_missing_folder_is_refused_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECALL_DATA", str(tmp_path))
    with pytest.raises(InvalidDataset, match=r"unpack tiny-imagenet-200\.zip, which Stanford's course"):
        load_dataset("tinyimagenet")


def test_cifar_100_has_twenty_superclasses_of_five() -> None:
    members = [member for group in CIFAR_100.values() for member in group.split()]
    assert (len(CIFAR_100), len(members), len(set(members))) == (20, 100, 100)
    assert groups_of("cifar100", members)["trees"][0] == "maple_tree"
    assert groups_of("mine", members) == {}


def test_a_known_data_set_has_groups_and_a_folder_of_that_name_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECALL_DATA", str(tmp_path))
    folder = tmp_path / "cifar100"
    folder.mkdir()
    classes = np.array(["apple", "bear", "wolf"])
    images = np.random.default_rng(0).integers(0, 256, size=(12, 8, 8, 3), dtype=np.uint8)
    for file in ("train.npz", "test.npz"):
        np.savez(folder / file, images=images, labels=np.arange(12) % 3, classes=classes)
    assert load_dataset("cifar100").groups == {"fruit and vegetables": ("apple",), "large carnivores": ("bear", "wolf")}
    assert load_dataset(str(folder)).groups == {}
