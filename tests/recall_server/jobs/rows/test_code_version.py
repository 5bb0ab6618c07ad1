"""The version of the code that trains: it changes exactly when that code does."""

from __future__ import annotations

import shutil
from pathlib import Path

import grimp
import pytest

from recall_server.jobs.rows.code_version import PACKAGE, SOURCES, digest_of_sources, training_code_version


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that a test may change and has to change back."""
    folder = tmp_path_factory.mktemp("copy") / "recall_server"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_a_copy_of_the_same_code_has_the_same_version(copied: Path) -> None:
    assert digest_of_sources(copied) == training_code_version()


@pytest.mark.parametrize(
    "file",
    [
        "core/training/descent.py",
        "core/networks/convnet.py",
        "core/preprocessing/zca.py",
        "core/classifier/fresh_classifier.py",
        "core/networks/kernels/windows.cpp",
        "core/networks/kernels/tiles.hpp",
        "jobs/rows/task.py",
    ],
)
def test_a_change_to_the_code_that_trains_is_another_version(copied: Path, file: str) -> None:
    before = digest_of_sources(copied)
    original = (copied / file).read_text()
    (copied / file).write_text(original + "\n")
    assert digest_of_sources(copied) != before
    (copied / file).write_text(original)
    assert digest_of_sources(copied) == before


def test_a_change_to_other_code_is_the_same_version(copied: Path) -> None:
    with (copied / "api" / "app.py").open("a") as file:
        file.write("\n")
    assert digest_of_sources(copied) == training_code_version()


def test_whatever_training_imports_from_the_shared_core_belongs_to_the_version() -> None:
    graph = grimp.build_graph("recall_server", cache_dir=None)
    imported = graph.find_upstream_modules("recall_server.core.classifier.fresh_classifier")
    rooms = {"/".join(name.split(".")[1:3]) for name in imported if name.startswith("recall_server.core.")}
    assert rooms <= set(SOURCES)
