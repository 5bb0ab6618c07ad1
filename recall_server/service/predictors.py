"""Classifiers that can be used: those that are finished, and what answers for one until it is."""

from __future__ import annotations

import contextlib
from typing import Literal

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.classifier.prototypes import PrototypeClassifier
from recall_server.errors import NotFound, NotReady
from recall_server.jobs.rows.task import TrainingTask
from recall_server.jobs.training_jobs import TrainingJobs

AnswerSource = Literal["classifier", "prototypes"]


def load_finished(jobs: TrainingJobs, identifier: str) -> FreshClassifier | PrototypeClassifier:
    """The classifier; raises NotFound and NotReady."""
    path = jobs.finished_file(identifier)
    if jobs.get(identifier).addressing == "prototypes":
        return PrototypeClassifier.from_bytes(jobs.read(identifier))
    return FreshClassifier.load(path)


def current_predictor(
    jobs: TrainingJobs, identifier: str
) -> tuple[FreshClassifier | PrototypeClassifier, AnswerSource]:
    """The classifier or, where it is being trained from pictures, their prototypes; raises NotFound and NotReady."""
    record = jobs.get(identifier)
    if not record.status.is_terminal and record.addressing == "images":
        with contextlib.suppress(NotFound, NotReady):  # it has just ended
            return PrototypeClassifier.from_bytes(TrainingTask.from_bytes(jobs.task(identifier)).interim), "prototypes"
    classifier = load_finished(jobs, identifier)
    return classifier, "prototypes" if isinstance(classifier, PrototypeClassifier) else "classifier"


def check_predictor(jobs: TrainingJobs, identifier: str) -> None:
    """Raises NotFound and NotReady where `usable` would, without a look at any file."""
    record = jobs.get(identifier)
    if record.status.is_terminal or record.addressing != "images":
        jobs.finished_file(identifier)
