"""Pictures to send, and services whose backend is told when to train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recall_server.config import Settings
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.library import Library
from recall_server.recall import Picture
from recall_server.service import RecallService
from tests.recall_server.job_examples import started
from tests.recall_server.serving_examples import COLUMNS, ManualBackend, picture, png

OWN = {column: column for column in COLUMNS}
Serve = Callable[..., RecallService]


def pictures(*labels: str, count: int = 3, seed: int = 100) -> list[Picture]:
    return [
        Picture(part=label, filename=f"{label}{index}.png", data=png(picture(label, seed + index)))
        for label in labels
        for index in range(count)
    ]


def named(names: dict[str, str], count: int = 3) -> list[Picture]:
    """Pictures of each label under another name."""
    return [
        Picture(part=name, filename=f"{name}{index}.png", data=png(picture(label, 100 + index)))
        for name, label in names.items()
        for index in range(count)
    ]


def service_with(backend: ManualBackend, library: Library, state: Path, **settings: Any) -> RecallService:
    """A service with a job table in memory. Its jobs end with the test."""
    jobs = TrainingJobs(SqlJobStore.open("sqlite://"), ClassifierFiles(state), backend, JobLimits())
    jobs.open()
    jobs.start()
    started.append(jobs)
    return RecallService(library, jobs, Settings(state=state, **settings))


def feature_service(library: Library, state: Path) -> RecallService:
    """A service of memories of features, whose trainings end at once."""
    return service_with(ManualBackend(eager=True), library, state)


def lazy_service(library: Library, state: Path) -> tuple[RecallService, ManualBackend]:
    """A service whose trainings wait until the backend is told to begin one."""
    backend = ManualBackend()
    return service_with(backend, library, state), backend
