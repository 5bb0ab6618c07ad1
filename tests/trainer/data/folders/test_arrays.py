"""Archives of arrays: damaged and inconsistent ones are refused with advice."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from recall_server.errors import InvalidDataset
from tests.trainer.data_examples import archives
from trainer.data.datasets import load_dataset


@pytest.mark.parametrize("classes", [["b", "a"], ["a", "b", "c"]])
def test_a_test_with_other_classes_is_refused(tmp_path: Path, classes: list[str]) -> None:
    archives(tmp_path, test={"classes": np.array(classes)})
    with pytest.raises(InvalidDataset, match=r"train\.npz and test\.npz must have the same classes in the same order"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("shape", [(8, 9, 9), (8, 8, 8, 3)])
def test_a_test_with_pictures_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    archives(tmp_path, test={"images": np.zeros(shape, np.uint8)})
    with pytest.raises(InvalidDataset, match=r"must have the same shape, not \[1, 8, 8\] and \["):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((3, 8, 8), np.float32)}, "images must be uint8"),
        ({"labels": np.zeros(2, np.int64)}, "labels must be 3 integers"),
        ({"labels": np.array([0, 1, 7])}, "labels must lie between 0 and 1"),
        ({"images": np.zeros((3, 0, 8), np.uint8)}, "images must be uint8"),
        ({"classes": np.array(["same", "same"])}, "two classes have the same name"),
        ({"classes": np.array("ab")}, "classes must be one string per class"),
        ({"classes": np.array([b"top", b"low"])}, "classes must be one string per class"),
        ({"classes": np.array([0, 1])}, "classes must be one string per class"),
    ],
)
def test_bad_arrays_are_refused_with_a_suggestion(tmp_path: Path, arrays: dict, message: str) -> None:
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


def damaged(good: bytes, kind: str) -> bytes:
    """One way for a file to be wrong; `good` is an archive with compressed members."""
    if kind == "header":  # numpy parses the header of a member with Python's own tokenizer
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            header = b"{'descr': (((((\n"
            archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        return stream.getvalue()
    if kind == "one array":
        stream = io.BytesIO()
        np.save(stream, np.zeros(3))
        return stream.getvalue()
    start = good.index(b"images.npy") + 60
    compressed = good[:start] + bytes(byte ^ 0xFF for byte in good[start : start + 40]) + good[start + 40 :]
    return {"empty": b"", "cut": good[: len(good) // 2], "text": b"not an archive", "compressed": compressed}[kind]


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "compressed", "header", "one array"])
def test_a_damaged_archive_is_refused(tmp_path: Path, kind: str) -> None:
    archives(tmp_path)
    with np.load(tmp_path / "train.npz") as arrays:
        np.savez_compressed(tmp_path / "train.npz", **dict(arrays))
    (tmp_path / "train.npz").write_bytes(damaged((tmp_path / "train.npz").read_bytes(), kind))
    with pytest.raises(InvalidDataset, match=r"^train\.npz must be an archive of the arrays"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("missing", ["train.npz", "test.npz"])
def test_a_missing_train_or_test_file_is_named(tmp_path: Path, missing: str) -> None:
    (archives(tmp_path) / missing).unlink()
    with pytest.raises(InvalidDataset, match=f"^{missing} must be an archive .* No such file"):
        load_dataset(str(tmp_path))


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    archives(tmp_path)
    with np.load(tmp_path / "train.npz") as arrays:
        np.savez(tmp_path / "test.npz", images=arrays["images"], labels=arrays["labels"])
    with pytest.raises(InvalidDataset, match=r"^test\.npz must be an archive .*classes"):
        load_dataset(str(tmp_path))
