"""A tiny real task: bright bars in 8x8 grey pictures, three classes, learnt in a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer.datasets import ImageDataset, load_dataset


def bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [count, 8, 8, 1] with a bright bar in the top, middle or bottom third, and its label."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = random.integers(0, 80, size=(count, 8, 8, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[3 * label : 3 * label + 2] += 160
    return images, labels


@pytest.fixture(scope="session")
def bars_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    for split, count in (("train", 90), ("test", 60)):
        images, labels = bars(count, seed=count)
        np.savez(folder / f"{split}.npz", images=images, labels=labels, classes=np.array(["top", "middle", "bottom"]))
    return folder


@pytest.fixture(scope="session")
def bars_dataset(bars_folder: Path) -> ImageDataset:
    return load_dataset(str(bars_folder))
