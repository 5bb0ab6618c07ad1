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
def test_changed_training_code_has_another_version(copied: Path, file: str) -> None:
    before = digest_of_sources(copied)
    original = (copied / file).read_text()
    (copied / file).write_text(original + "\n")
    assert digest_of_sources(copied) != before
    (copied / file).write_text(original)
    assert digest_of_sources(copied) == before


def test_changes_to_other_code_keep_the_version(copied: Path) -> None:
    with (copied / "api" / "app.py").open("a") as file:
        file.write("\n")
    assert digest_of_sources(copied) == training_code_version()


def test_the_version_covers_all_core_modules_that_training_imports() -> None:
    graph = grimp.build_graph("recall_server", cache_dir=None)
    imported = graph.find_upstream_modules("recall_server.core.classifier.fresh_classifier")
    rooms = {"/".join(name.split(".")[1:3]) for name in imported if name.startswith("recall_server.core.")}
    assert rooms <= set(SOURCES)
