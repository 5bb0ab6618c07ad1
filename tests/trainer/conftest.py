"""A tiny data set, 8x8 grey pictures with a bright bar in three classes, and what the command refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.suite.ray_cluster import LocalCluster
from tests.trainer.data_examples import bars_data
from trainer.cli.app import main
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.run.parallel.ray_tasks import RayTasks


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


@pytest.fixture(scope="module")  # the end of its cluster, which other modules kill, would end this process
def ray_tasks(ray_cluster: LocalCluster) -> Iterator[RayTasks]:
    """Tasks of one CPU each."""
    tasks = RayTasks.connect(ray_cluster.address, cpus=1, gpus=0, tell=lambda sentence: None)
    yield tasks
    tasks.ray.shutdown()
