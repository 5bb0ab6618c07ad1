"""Fixtures for the tests of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from recall_server.config import Settings
from recall_server.library import Library
from tests.recall_server.job_examples import started, stop_jobs_started_since
from tests.recall_server.serving_examples import write_artifacts


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads, and many times slower on busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of small bundles, which no test may change."""
    return write_artifacts(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="session")
def library(artifacts: Path) -> Library:
    return Library.load(artifacts, device="cpu")


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of a server comes from the environment in which the tests run."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RECALL_{name.upper()}", raising=False)


@pytest.fixture(autouse=True)
def _stop_jobs() -> Iterator[None]:
    """End with each test the servers that it started by `jobs_with`; those of wider fixtures go on."""
    before = len(started)
    yield
    stop_jobs_started_since(before)
