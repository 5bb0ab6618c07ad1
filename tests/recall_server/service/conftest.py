"""A service over small bundles."""

from __future__ import annotations

from pathlib import Path

import pytest

from recall_server.config import Settings
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.library import Library
from recall_server.service import RecallService
from tests.recall_server.service.examples import Serve
from tests.recall_server.serving_examples import (
    ManualBackend,
)


@pytest.fixture
def serve(library: Library, tmp_path: Path) -> Serve:
    """A service that trains at once, with settings of the test's choice."""

    def assemble(**changed: object) -> RecallService:
        jobs = TrainingJobs(
            SqlJobStore.open("sqlite://"), ClassifierFiles(tmp_path), ManualBackend(eager=True), JobLimits()
        )
        jobs.open()
        jobs.start()
        return RecallService(library, jobs, Settings(state=tmp_path, **changed))  # type: ignore[arg-type]

    return assemble


@pytest.fixture
def service(serve: Serve) -> RecallService:
    return serve()
