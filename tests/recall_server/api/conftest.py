"""The web application with small bundles, and a backend that trains when a test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recall_server.api.app import create_app
from recall_server.config.settings import Settings
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.library.library import Library
from recall_server.service.service import RecallService, job_limits
from tests.recall_server.serving_examples import ManualBackend

Open = Callable[..., TestClient]


@pytest.fixture
def backend() -> ManualBackend:
    return ManualBackend(eager=True)


@pytest.fixture
def open_app(library: Library, backend: ManualBackend, tmp_path: Path) -> Iterator[Open]:
    """open_app(**settings) returns a client of a new application. Unexpected errors are answers, as in production."""
    opened: list[TestClient] = []

    def open_app(*, bundles: Library = library, **changed: Any) -> TestClient:
        # Jobs of a ManualBackend may never end: nothing is gained by waiting for them.
        settings = Settings(state=tmp_path, **{"min_free_bytes": 0, "drain_seconds": 0} | changed)
        jobs = TrainingJobs(SqlJobStore.open("sqlite://"), ClassifierFiles(tmp_path), backend, job_limits(settings))
        jobs.open()
        app = create_app(RecallService(bundles, jobs, settings))
        client = TestClient(
            app, base_url="http://127.0.0.1", raise_server_exceptions=False, client=("127.0.0.1", 50000)
        )
        opened.append(client)
        client.__enter__()
        return client

    yield open_app
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(open_app: Open) -> TestClient:
    return open_app()
