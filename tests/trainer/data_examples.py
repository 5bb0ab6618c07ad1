"""Small data sets to be read: bright bars, learnt in a few steps; archives; and a stand-in for torchvision's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def archives(folder: Path, *, test: dict[str, np.ndarray] | None = None, **changed: np.ndarray) -> Path:
    """A good train.npz and test.npz of two classes, but for what is changed in both or in the test alone."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, size=(8, 8, 8), dtype=np.uint8)
    good = {"images": images, "labels": np.arange(8) % 2, "classes": np.array(["a", "b"])} | changed
    np.savez(folder / "train.npz", **good)
    np.savez(folder / "test.npz", **(good | (test or {})))
    return folder


def bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [count, 8, 8, 1] with a bright bar in the top, middle or bottom third, and its label."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = random.integers(0, 80, size=(count, 8, 8, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[3 * label : 3 * label + 2] += 160
    return images, labels


def bars_data(folder: Path) -> Path:
    """The bars as train.npz and test.npz."""
    for split, count in (("train", 90), ("test", 60)):
        images, labels = bars(count, seed=count)
        np.savez(folder / f"{split}.npz", images=images, labels=labels, classes=np.array(["top", "middle", "bottom"]))
    return folder


def picture_folder(root: Path, *names: str, each: int = 30, height: int = 8, width: int = 8, seed: int = 0) -> Path:
    """Class folders of grey pictures with a bar, a quarter high, where the class has it."""
    random, bar = np.random.default_rng(seed), height // 4
    for position, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = random.integers(0, 60, size=(height, width), dtype=np.uint8)
            pixels[bar * position : bar * (position + 1)] += 180
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


class Library:
    """The part of torchvision's data sets that is relied on: MNIST's `targets`, or SVHN's `labels` and [N, C, H, W]."""

    made: list[tuple[Path, object]]
    error: OSError | None = None

    def __init__(self, root: Path, download: bool, train: bool | None = None, split: str | None = None) -> None:
        assert download
        self.made.append((root, split if train is None else train))
        if self.error:
            raise self.error
        count = 40 if train or split == "train" else 20
        values = np.arange(count * 3 * 6 * 5, dtype=np.int64) % 251
        if train is None:
            self.data: object = values.astype(np.uint8).reshape(count, 3, 6, 5)
            self.labels = np.arange(count) % 10
        else:
            self.data = torch.from_numpy(values.astype(np.uint8)[: count * 30]).reshape(count, 6, 5)
            self.targets = torch.arange(count) % 10
            self.classes = [f"{digit} - name" for digit in range(10)]
