"""Jobs to test with: a record, a task that trains in a moment, and everything around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recall_server.core.classifier.prototypes import PrototypeClassifier
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.records import BundleIdentity, ClassifierRecord, IdempotencyKey, ImageSize, now
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.rows.task import TaskDescription, TrainingTask
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.jobs.workers.backend import Backend
from tests.recall_server.serving_examples import COLUMNS, RETRAINING, ManualBackend, memory_of_columns

ENDLESS = 100_000  # steps
started: list[TrainingJobs] = []  # by `jobs_with`; the fixture in conftest.py stops them
DIVERGING = torch.eye(3) * 3e38  # targets whose loss is infinite


def record(identifier: str = "a" * 32, **changed: Any) -> ClassifierRecord:
    fields: dict[str, Any] = {
        "id": identifier,
        "labels": tuple(COLUMNS),
        "bundle": BundleIdentity(name="columns", sha256="0" * 64),
        "bundles": (BundleIdentity(name="columns", sha256="0" * 64),),
        "queries": "labels",
        "image": ImageSize(channels=1, height=8, width=8),
        "network": "convnet:filters=8,depth=2",
        "seed": 0,
        "created_at": now(),
    }
    return ClassifierRecord(**(fields | changed))


def training_task(
    *, steps: int = RETRAINING.steps, targets: Tensor | None = None, seed: int = 3, interim: bytes = b""
) -> TrainingTask:
    memory, preprocessing = memory_of_columns()
    retraining = RETRAINING.model_copy(update={"steps": steps})
    return TrainingTask(
        images=memory.items(torch.eye(3)),
        targets=torch.eye(3) if targets is None else targets,
        preprocessing=preprocessing,
        description=TaskDescription(
            labels=tuple(COLUMNS),
            preprocessing="standardise",
            retraining=retraining,
            seed=seed,
            metadata={"bundle": "x"},
        ),
        interim=interim,
    )


def interim_classifier() -> bytes:
    """The file of a nearest-class-mean classifier of the columns. Its model is none that onnxruntime could run."""
    return PrototypeClassifier(tuple(COLUMNS), (1, 8, 8), b"a model").to_bytes()


def key(text: str, request: str = "a request", *, caller: str = "") -> IdempotencyKey:
    return IdempotencyKey(caller=caller, text=text, request=request)


def database(state: Path) -> str:
    """The URL of a table in the state folder."""
    return f"sqlite:///{state / 'jobs.sqlite'}"


def jobs_with(backend: Backend, state: Path, **limits: Any) -> TrainingJobs:
    """A server's jobs; several may share one state folder."""
    jobs = TrainingJobs(SqlJobStore.open(database(state)), ClassifierFiles(state), backend, JobLimits(**limits))
    jobs.open()
    jobs.start()
    started.append(jobs)
    return jobs


class Pair:
    """Two servers on one table and one state folder, with a backend each."""

    def __init__(self, state: Path, **limits: float) -> None:
        self.backends = ManualBackend(), ManualBackend()
        self.one, self.other = (jobs_with(backend, state, **limits) for backend in self.backends)


def silence(jobs: TrainingJobs) -> None:
    """As if the server were gone: no heartbeat, no maintenance. What its backend says can still arrive."""
    jobs._maintenance.stop()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def files(state: Path) -> set[str]:
    """The names of all tasks and classifiers."""
    return names(state / "classifiers") | names(state / "tasks")


def stop_jobs_started_since(count: int) -> None:
    """Stop what `jobs_with` started after the first `count` servers."""
    while len(started) > count:
        started.pop().stop()
