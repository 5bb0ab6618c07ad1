"""The folders that are kept between runs, also for users without a home."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.cache import kept_in
from trainer.data.datasets import load_dataset
from trainer.data.features import cache_folder


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has no home and no entry in the table of users."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    for name in ("RECALL_DATA", "RECALL_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_learns_which_variable_to_set() -> None:
    with pytest.raises(ValueError, match="let RECALL_DATA name a folder"):
        load_dataset("cifar10")
    with pytest.raises(ValueError, match="let RECALL_CACHE name a folder"):
        cache_folder()


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECALL_DATA", str(tmp_path))
    assert kept_in("RECALL_DATA") == tmp_path
