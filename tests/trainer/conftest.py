"""A tiny data set: 8x8 grey pictures with a bright bar, in three classes that a network learns in a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.data_examples import bars_data
from trainer.data.datasets import ImageDataset, load_dataset


@pytest.fixture(scope="session")
def bars_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bars_data(tmp_path_factory.mktemp("bars"))


@pytest.fixture(scope="session")
def bars_dataset(bars_folder: Path) -> ImageDataset:
    return load_dataset(str(bars_folder))
