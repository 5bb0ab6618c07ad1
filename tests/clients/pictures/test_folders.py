"""A folder of class folders is what `train` takes, whatever else lies about in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from recall_client import class_folders


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_each_folder_is_a_class_with_its_pictures(tmp_path: Path) -> None:
    dog, cat = tmp_path / "dog & friends", tmp_path / "été"
    touch(dog / "2.PNG", dog / "1.jpg", dog / "more/3.webp", cat / "a.jpeg")
    touch(dog / "notes.txt", dog / ".hidden.jpg", dog / ".cache/4.jpg", tmp_path / ".git/5.jpg", tmp_path / "6.jpg")
    with pytest.warns(UserWarning, match="left out: dog & friends/notes.txt$"):
        found = class_folders(tmp_path)
    assert list(found) == ["dog & friends", "été"]
    assert found["dog & friends"] == [dog / "1.jpg", dog / "2.PNG", dog / "more/3.webp"]
    (dog / "notes.txt").unlink()
    assert class_folders(str(tmp_path)) == found


def test_a_folder_without_class_folders_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no folders; it needs one folder of pictures for each class"):
        class_folders(tmp_path)
    touch(tmp_path / "dog/1.jpg", tmp_path / "cat/1.txt")
    with pytest.raises(
        ValueError, match=r"cat holds no pictures; their names end in .jpg, .jpeg, .jpe, .jfif, .png, .webp"
    ):
        class_folders(tmp_path)
    with pytest.raises(FileNotFoundError):
        class_folders(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError):
        class_folders(tmp_path / "dog/1.jpg")


def test_files_of_all_pillow_formats_are_found_and_others_are_named(tmp_path: Path) -> None:
    touch(*(tmp_path / "cat" / f"1{suffix}" for suffix in (".bmp", ".gif", ".tif", ".tiff", ".jpe", ".jfif", ".JPG")))
    touch(*(tmp_path / "dog" / f"{number}.mov" for number in range(7)), tmp_path / "dog/deep/er/8.png")
    with pytest.warns(UserWarning, match=r"left out: dog/0.mov, dog/1.mov, .* dog/4.mov and 2 more$"):
        found = class_folders(tmp_path)
    assert len(found["cat"]) == 7 and [path.name for path in found["dog"]] == ["8.png"]


def test_folder_names_become_composed_unicode(tmp_path: Path) -> None:
    touch(tmp_path / "Mu\u0308ller/1.jpg")
    assert list(class_folders(tmp_path)) == ["M\u00fcller"]
    touch(tmp_path / "M\u00fcller/1.jpg")
    with pytest.raises(ValueError, match="two folders whose names look the same, 'Müller'"):
        class_folders(tmp_path)
