"""Jobs to test with: a record, a task that trains in a moment, and everything around them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recall_server.jobs.backend import Backend
from recall_server.jobs.files import ClassifierFiles
from recall_server.jobs.records import BundleIdentity, ClassifierRecord, ImageSize, now
from recall_server.jobs.store import MemoryJobStore
from recall_server.jobs.task import TaskDescription, TrainingTask
from recall_server.jobs.training_jobs import TrainingJobs
from tests.recall_server.serving_examples import COLUMNS, RETRAINING, memory_of_columns

PATIENCE = 60.0
ENDLESS = 100_000  # steps
DIVERGING = torch.eye(3) * 3e38  # targets whose loss is infinite


def record(identifier: str = "a" * 32, **changed: Any) -> ClassifierRecord:
    fields: dict[str, Any] = {
        "id": identifier,
        "labels": tuple(COLUMNS),
        "bundle": BundleIdentity(name="columns", sha256="0" * 64),
        "queries": "labels",
        "image": ImageSize(channels=1, height=8, width=8),
        "network": "convnet:filters=8,depth=2",
        "seed": 0,
        "created_at": now(),
    }
    return ClassifierRecord(**(fields | changed))


def training_task(*, steps: int = RETRAINING.steps, targets: Tensor | None = None) -> TrainingTask:
    memory, preprocessing = memory_of_columns()
    retraining = RETRAINING.model_copy(update={"steps": steps})
    return TrainingTask(
        images=memory.recall(torch.eye(3)),
        targets=torch.eye(3) if targets is None else targets,
        preprocessing=preprocessing,
        description=TaskDescription(
            labels=tuple(COLUMNS), preprocessing="standardise", retraining=retraining, seed=3, metadata={"bundle": "x"}
        ),
    )


def eventually(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, f"waited {PATIENCE:g} seconds in vain until {what}"
        time.sleep(0.01)


def jobs_with(backend: Backend, state: Path) -> TrainingJobs:
    jobs = TrainingJobs(MemoryJobStore(), ClassifierFiles(state), backend)
    jobs.open()
    jobs.start()
    return jobs
