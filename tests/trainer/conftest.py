"""A tiny data set, 8x8 grey pictures with a bright bar in three classes, and what the command refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.data_examples import bars_data
from trainer.cli.app import main
from trainer.data.datasets import ImageDataset, load_dataset


@pytest.fixture(scope="session")
def bars_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bars_data(tmp_path_factory.mktemp("bars"))


@pytest.fixture(scope="session")
def bars_dataset(bars_folder: Path) -> ImageDataset:
    return load_dataset(str(bars_folder))


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """refused(*arguments): what `recall-trainer` says on stderr as it ends with status 2."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["recall-trainer", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    return run
