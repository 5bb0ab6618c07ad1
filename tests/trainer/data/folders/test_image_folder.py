"""Folders of pictures: decoded as by the server, with every unreadable file named."""

from __future__ import annotations

import errno
import gc
import io
import os
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from recall_server.core.io.pictures import decode
from recall_server.errors import InvalidDataset
from tests.trainer.data_examples import rows
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.data.folders import folder_dataset, image_folder
from trainer.data.folders.image_folder import ImageFolder
from trainer.data.second_moments import SecondMoments
from trainer.data.splits import Split


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
    assert [torch.bincount(split.labels).min() > 0 for split in (dataset.train, dataset.validation, dataset.test)]
    assert len(everything(dataset)) == 20


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
    with pytest.raises(InvalidDataset, match="pictures in 1 class folder; it must contain two or more"):
        load_dataset(str(tmp_path))


def test_an_unreadable_picture_is_left_out_named_and_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        class_folder(tmp_path, name, 20)
    (tmp_path / "b" / "broken.png").write_bytes(b"not a picture")
    dataset = load_dataset(str(tmp_path))
    assert len(everything(dataset)) == 40
    (complaint,) = dataset.complaints()
    assert complaint.startswith("1 file was left out: b/broken.png is no ")


def test_many_unreadable_pictures_are_counted_and_the_first_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        class_folder(tmp_path, name, 8)
    for number in range(7):
        (tmp_path / "a" / f"broken{number}.png").write_bytes(b"not a picture")
    (complaint,) = load_dataset(str(tmp_path)).complaints()
    assert complaint.startswith("7 files were left out: a/broken0.png")
    assert complaint.endswith("; ...")


def test_a_class_without_a_readable_picture_is_refused_by_name(tmp_path: Path) -> None:
    class_folder(tmp_path, "a", 8)
    (class_folder(tmp_path, "b", 0) / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(InvalidDataset, match=r"no picture of b can be read: b/broken\.png is no "):
        load_dataset(str(tmp_path))


def test_a_picture_deleted_during_reading_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        class_folder(tmp_path, name, 10)
    survey = folder_dataset.survey

    def survey_then_change(folder: Path) -> ImageFolder:
        found = survey(folder)
        (tmp_path / "a" / "3.png").unlink()
        (tmp_path / "a" / "new.png").write_bytes((tmp_path / "a" / "4.png").read_bytes())
        return found

    monkeypatch.setattr(folder_dataset, "survey", survey_then_change)
    dataset = load_dataset(str(tmp_path))
    assert len(everything(dataset)) == 19
    assert dataset.unreadable == ("a/3.png cannot be read: No such file or directory",)


def shaded_folder(root: Path, each: int) -> None:
    """Two classes of grey pictures, no two alike."""
    for name, first in (("a", 1), ("b", 101)):
        folder = class_folder(root, name, 0)
        for number in range(each):
            Image.new("L", (8, 8), first + number).save(folder / f"{number:02}.png")


def test_the_held_out_pictures_do_not_depend_on_unreadable_ones(tmp_path: Path) -> None:
    """Else a test picture could become one to learn from, because another file broke meanwhile."""
    shaded_folder(tmp_path, 20)
    before = load_dataset(str(tmp_path))
    whole = (tmp_path / "a" / "05.png").read_bytes()
    (tmp_path / "a" / "05.png").write_bytes(whole[: len(whole) // 2])
    survivors = load_dataset(str(tmp_path))
    assert len(everything(survivors)) == 39
    for part in ("train", "validation", "test"):
        assert rows(getattr(survivors, part).images) <= rows(getattr(before, part).images)


def test_a_folder_too_large_for_memory_keeps_a_sample_and_processes_all_pictures(tmp_path: Path) -> None:
    shaded_folder(tmp_path, 50)
    whole, seen = load_dataset(str(tmp_path)), SecondMoments()
    sample = load_dataset(str(tmp_path), most_bytes=40 * 64, observe=seen)
    assert len(everything(sample)) <= 44
    assert set(sample.train.labels.tolist()) == {0, 1}
    assert (sample.digest, sample.training_bytes) == (whole.digest, whole.training_bytes)
    assert seen.count == len(whole.train)
    for part in ("train", "validation", "test"):
        assert rows(getattr(sample, part).images) <= rows(getattr(whole, part).images)


def test_larger_pictures_are_processed_in_smaller_chunks() -> None:
    large = Split(torch.zeros(60, 3, 256, 256, dtype=torch.uint8), torch.zeros(60, dtype=torch.int64))
    assert [len(chunk) for chunk in large.chunks()] == [21, 21, 18]
    small = Split(torch.zeros(1500, 3, 32, 32, dtype=torch.uint8), torch.zeros(1500, dtype=torch.int64))
    assert [len(chunk) for chunk in small.chunks()] == [1024, 476]


def test_too_few_pictures_of_a_class_are_refused(tmp_path: Path) -> None:
    class_folder(tmp_path, "a", 9)
    class_folder(tmp_path, "b", 2)
    with pytest.raises(InvalidDataset, match="fewer than 3 training pictures of b"):
        load_dataset(str(tmp_path))


def everything(dataset: ImageDataset) -> torch.Tensor:
    return torch.cat([dataset.train.images, dataset.validation.images, dataset.test.images])


def odd_pictures(folder: Path) -> None:
    """Sixteen-bit, transparent, paletted, CMYK and turned ones: where a reader of its own would differ."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, size=(9, 14, 4), dtype=np.uint8)
    Image.fromarray(random.integers(0, 65536, size=(9, 14), dtype=np.uint16)).save(folder / "sixteen.png")
    Image.fromarray(noise).save(folder / "transparent.png")
    Image.fromarray(noise[..., :3]).quantize(8).save(folder / "palette.png")
    Image.fromarray(noise).convert("RGB").convert("CMYK").save(folder / "cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(noise[..., :3]).save(folder / "turned.jpe", format="JPEG", exif=exif)


def test_pictures_are_prepared_as_by_the_server(tmp_path: Path) -> None:
    for name in ("a", "b"):
        odd_pictures(class_folder(tmp_path, name, 0))
    dataset = load_dataset(str(tmp_path), image_size=6)
    wanted = torch.stack(
        [torch.from_numpy(decode(path.read_bytes(), (3, 6, 6))) for path in sorted(tmp_path.glob("*/*.*"))]
    )
    assert len(wanted) == 10
    assert rows(everything(dataset)) == rows((wanted * 255).round().to(torch.uint8))


@pytest.mark.parametrize("kind", [Image.Image, PurePath])
def test_full_size_pictures_are_not_kept_in_memory(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        class_folder(tmp_path, name, 10)
    alive: list[int] = []
    open_one = Image.open

    def count() -> int:
        return sum(issubclass(type(thing), kind) for thing in gc.get_objects())

    def opening(*args: Any, **options: Any) -> Image.Image:
        alive.append(count())
        return open_one(*args, **options)

    monkeypatch.setattr(Image, "open", opening)
    gc.freeze()  # objects that exist already are not counted
    load_dataset(str(tmp_path), image_size=4)
    gc.unfreeze()
    assert len(alive) == 40  # the header and the picture
    assert max(alive) <= 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_all_grey_modes_stay_grey(tmp_path: Path, mode: str) -> None:
    for name in ("a", "b"):
        folder = class_folder(tmp_path, name, 0)
        for number in range(5):
            Image.new(mode, (8, 8)).save(folder / f"{number}.png")
    assert load_dataset(str(tmp_path)).image_shape == (1, 8, 8)


def test_one_picture_in_colour_makes_train_and_test_colour(tmp_path: Path) -> None:
    for half, mode in (("train", "L"), ("test", "RGB")):
        for name in ("a", "b"):
            class_folder(tmp_path / half, name, 5, mode=mode)
    dataset = load_dataset(str(tmp_path))
    assert dataset.image_shape == (3, 9, 9)
    assert dataset.test.images.shape == (10, 3, 9, 9)


def test_the_size_is_the_shorter_side_of_the_first_picture_up_to_a_limit(tmp_path: Path) -> None:
    for name in ("a", "b"):
        class_folder(tmp_path, name, 5, size=(300, 270), mode="L")
    assert load_dataset(str(tmp_path)).image_shape == (1, 256, 256)


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_without_pixels_is_refused(tmp_path: Path, size: int) -> None:
    for name in ("a", "b"):
        class_folder(tmp_path, name, 5)
    with pytest.raises(InvalidDataset, match="an image size must be 1 or more"):
        load_dataset(str(tmp_path), image_size=size)


def test_a_photograph_of_24_megapixels_is_read_and_one_beyond_the_limit_is_left_out_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_folder(tmp_path, "a", 5)
    Image.new("L", (6000, 4000)).save(class_folder(tmp_path, "b", 5) / "photograph.jpg")
    assert load_dataset(str(tmp_path), image_size=8).unreadable == ()
    monkeypatch.setattr(image_folder, "MOST_PIXELS", 23_000_000)
    (sentence,) = load_dataset(str(tmp_path), image_size=8).unreadable
    assert sentence == "b/photograph.jpg is too large: 6000x4000 is more than 23,000,000 pixels"


def test_a_damaged_and_an_animated_picture_are_named(tmp_path: Path) -> None:
    class_folder(tmp_path, "a", 5)
    picture = class_folder(tmp_path, "b", 5) / "x.png"
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, size=(30, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, format="PNG")
    picture.write_bytes(stream.getvalue()[:900])
    (sentence,) = load_dataset(str(tmp_path)).unreadable
    assert sentence.startswith("b/x.png is damaged")
    Image.new("L", (8, 8)).save(picture, save_all=True, append_images=[Image.new("L", (8, 8), 9)])
    (sentence,) = load_dataset(str(tmp_path)).unreadable
    assert sentence.startswith("b/x.png is animated")


def test_every_file_that_is_left_out_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        class_folder(tmp_path, name, 5)
    (class_folder(tmp_path, "empty", 0) / "notes.txt").write_text("none yet")
    Image.new("L", (8, 8)).save(tmp_path / "stray.png")
    assert load_dataset(str(tmp_path)).unreadable == (
        "empty/notes.txt does not have the suffix of a picture",
        "the folder empty has no picture",
        "stray.png is in no class folder",
    )


@pytest.mark.parametrize("suffix", ["bmp", "gif", "tif", "jpg", "png", "webp"])
def test_pictures_of_all_usual_formats_are_read_at_any_depth(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        deep = class_folder(tmp_path, name, 5) / "2026" / "summer"
        deep.mkdir(parents=True)
        Image.new("RGB", (12, 9), "white").save(deep / f"1.{suffix}")
    dataset = load_dataset(str(tmp_path))
    assert dataset.unreadable == ()
    assert (everything(dataset).flatten(1).float().mean(1) > 250).sum() == 2


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        class_folder(tmp_path, name, 5)
    scan = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("b"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InvalidDataset, match="b cannot be read: Permission denied"):
        load_dataset(str(tmp_path))


def test_class_names_are_composed_unicode_and_two_that_look_the_same_are_refused(tmp_path: Path) -> None:
    class_folder(tmp_path, "Mu\u0308ller", 5)
    class_folder(tmp_path, "Meier", 5)
    assert load_dataset(str(tmp_path)).classes == ("Meier", "M\u00fcller")
    class_folder(tmp_path, "M\u00fcller", 5)
    with pytest.raises(InvalidDataset, match="two folders whose names look the same"):
        load_dataset(str(tmp_path))


def split_of(dataset: ImageDataset) -> dict[str, set[bytes]]:
    return {part: rows(getattr(dataset, part).images) for part in ("train", "validation", "test")}


def test_a_folder_that_grows_keeps_its_split(tmp_path: Path) -> None:
    shaded_folder(tmp_path, 60)
    before = split_of(load_dataset(str(tmp_path)))
    shaded_folder(tmp_path / "more", 90)
    for path in (tmp_path / "more").glob("*/*.png"):
        path.rename(tmp_path / path.parent.name / f"later {path.name}")
    (tmp_path / "more" / "a").rmdir(), (tmp_path / "more" / "b").rmdir(), (tmp_path / "more").rmdir()
    after = split_of(load_dataset(str(tmp_path)))
    assert all(before[part] < after[part] for part in before)


@pytest.mark.parametrize("change", ["renamed", "moved into sub-folders", "another seed", "another size"])
def test_the_split_depends_on_the_content_of_the_files_alone(tmp_path: Path, change: str) -> None:
    shaded_folder(tmp_path, 30)
    before = split_of(load_dataset(str(tmp_path), image_size=4))
    for path in list(tmp_path.glob("*/*.png")):
        if change == "renamed":
            path.rename(path.with_name(f"{999 - int(path.stem)}.png"))
        if change == "moved into sub-folders":
            (path.parent / path.stem[0]).mkdir(exist_ok=True)
            path.rename(path.parent / path.stem[0] / path.name)
    seed, size = (7 if change == "another seed" else 0), (8 if change == "another size" else 4)
    after = load_dataset(str(tmp_path), image_size=size, seed=seed)
    if size == 8:
        after = after.with_each_split(lambda split: Split(split.images[..., :4, :4], split.labels))
    assert split_of(after) == before


@pytest.mark.parametrize("each", [4, 5, 9, 40])
def test_of_every_class_some_pictures_are_held_out_and_three_are_left_to_train_on(tmp_path: Path, each: int) -> None:
    for number in range(20):
        class_folder(tmp_path, f"class {number:02}", 0)
        for shade in range(each):
            Image.new("L", (4, 4), (number * 11 + shade * 5) % 256).save(
                tmp_path / f"class {number:02}" / f"{shade}.png"
            )
    dataset = load_dataset(str(tmp_path))
    counts = [torch.bincount(split.labels, minlength=20) for split in (dataset.train, dataset.validation, dataset.test)]
    assert torch.stack(counts[1:]).min() >= 1
    assert (counts[0] + counts[1]).min() >= 3
    if each == 40:
        assert abs(len(dataset.test) / 800 - 0.2) < 3 * (0.2 * 0.8 / 800) ** 0.5


@pytest.mark.parametrize("held_out", [("test", "val"), ("test", "validation"), ("test",), ("val",), ("validation",)])
def test_folders_of_held_out_pictures_beside_train_are_used_as_they_are(
    tmp_path: Path, held_out: tuple[str, ...]
) -> None:
    for part, shade in (("train", 100), *zip(held_out, (0, 200), strict=False)):
        for name in ("a", "b"):
            folder = class_folder(tmp_path / part, name, 0)
            for number in range(20):
                Image.new("L", (4, 4), shade + number + 20 * (name == "b")).save(folder / f"{number}.png")
    dataset = load_dataset(str(tmp_path))
    assert len(dataset.test) == 40 and dataset.test.images.max() < 100
    if len(held_out) == 2:
        assert len(dataset.validation) == 40 and dataset.validation.images.min() >= 200
    assert dataset.train.images.min() >= 100
    assert len(everything(dataset)) == 40 * (1 + len(held_out))


def test_hidden_files_of_file_managers_are_ignored(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = class_folder(tmp_path, name, 5)
        (folder / "._0.png").write_bytes(b"left by a Mac")
        (folder / "album.png").mkdir()
    assert len(everything(load_dataset(str(tmp_path)))) == 10


def test_train_and_test_must_hold_the_same_class_folders(tmp_path: Path) -> None:
    for half, names in (("train", "ab"), ("test", "ac")):
        for name in names:
            class_folder(tmp_path / half, name, 5)
    with pytest.raises(InvalidDataset, match="train and test must have the same class folders"):
        load_dataset(str(tmp_path))
