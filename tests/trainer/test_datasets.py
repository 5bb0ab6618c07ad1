"""Data sets: splits never mix, and what cannot be used is refused with what would be right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recall_server.errors import InvalidDataset
from trainer.datasets import ImageDataset, load_dataset


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


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


def class_folder(root: Path, name: str, count: int, size: tuple[int, int] = (12, 9), mode: str = "RGB") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new(mode, size, number * 10 if mode == "L" else (number * 10, 20, 30)).save(folder / f"{number}.png")
    return folder


def test_a_folder_of_class_folders_becomes_a_data_set(tmp_path: Path) -> None:
    class_folder(tmp_path, "cat", 10)
    class_folder(tmp_path, "dog", 10, size=(30, 40))
    dataset = load_dataset(str(tmp_path), image_size=8)
    assert dataset.classes == ("cat", "dog")
    assert dataset.image_shape == (3, 8, 8)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (14, 2, 4)


def test_a_folder_of_grey_pictures_stays_grey(tmp_path: Path) -> None:
    for name in ("a", "b"):
        class_folder(tmp_path, name, 8, mode="L")
    assert load_dataset(str(tmp_path)).image_shape == (1, 9, 9)


def test_a_turned_photo_is_turned_upright(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = class_folder(tmp_path, name, 7)
        picture = Image.new("RGB", (8, 8), "black")
        picture.paste("white", (0, 0, 8, 4))
        exif = Image.Exif()
        exif[0x0112] = 3  # half a turn
        picture.save(folder / "turned.jpg", exif=exif, quality=95)
    dataset = load_dataset(str(tmp_path), image_size=8)
    images = torch.cat([dataset.train.images, dataset.validation.images, dataset.test.images]).float()
    turned = [image for image in images if image.std() > 100]
    assert len(turned) == 2
    assert all(image[:, 4:].mean() > 240 and image[:, :4].mean() < 15 for image in turned)


def test_one_class_is_refused(tmp_path: Path) -> None:
    class_folder(tmp_path, "only", 5)
    with pytest.raises(InvalidDataset, match="pictures in 1 class folder; it must hold two or more"):
        load_dataset(str(tmp_path))


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    class_folder(tmp_path, "a", 5)
    (class_folder(tmp_path, "b", 5) / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(InvalidDataset, match=r"b/broken\.png is not a readable picture"):
        load_dataset(str(tmp_path))


def test_too_few_pictures_of_a_class_are_refused(tmp_path: Path) -> None:
    class_folder(tmp_path, "a", 9)
    class_folder(tmp_path, "b", 2)
    with pytest.raises(InvalidDataset, match="fewer than 3 training pictures of b"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((3, 8, 8), np.float32)}, "images must be uint8"),
        ({"labels": np.zeros(2, np.int64)}, "labels must be 3 integers"),
        ({"labels": np.array([0, 1, 7])}, "labels must lie between 0 and 1"),
        ({"classes": np.array(["same", "same"])}, "two classes have the same name"),
    ],
)
def test_bad_arrays_are_refused_with_what_would_be_right(tmp_path: Path, arrays: dict, message: str) -> None:
    good = {"images": np.zeros((3, 8, 8), np.uint8), "labels": np.array([0, 1, 1]), "classes": np.array(["a", "b"])}
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", **(good | arrays))
    with pytest.raises(InvalidDataset, match=message):
        load_dataset(str(tmp_path))


def test_a_pickled_array_is_never_unpickled(tmp_path: Path) -> None:
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", images=np.array([{}], dtype=object), labels=np.zeros(1), classes=["a"])
    with pytest.raises(InvalidDataset, match="Object arrays cannot be loaded"):
        load_dataset(str(tmp_path))
