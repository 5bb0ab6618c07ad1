"""Which classifier answers a prediction, and how often its file is read for that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.classifier.prototypes import PrototypeClassifier
from recall_server.errors import NotFound
from recall_server.jobs.rows.task import TrainingTask
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.service.loaded_classifiers import LoadedClassifiers
from tests.recall_server.job_examples import interim_classifier, jobs_with, record, training_task
from tests.recall_server.serving_examples import ManualBackend


class Counted:
    """How often a class method was called."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.calls = 0
        original = getattr(owner, name)

        def counted(_: type, *arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return original(*arguments, **options)

        patch.setattr(owner, name, classmethod(counted))


@pytest.fixture
def backend() -> ManualBackend:
    return ManualBackend()


@pytest.fixture
def jobs(backend: ManualBackend, tmp_path: Path) -> TrainingJobs:
    return jobs_with(backend, tmp_path)


def in_training(jobs: TrainingJobs) -> str:
    """The id of a job that is trained from pictures."""
    task = training_task(interim=interim_classifier())
    return jobs.submit(record(queries="images", addressing="images"), task).record.id


def test_a_finished_classifier_is_read_once(
    jobs: TrainingJobs, backend: ManualBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = jobs.submit(record(), training_task()).record.id
    backend.perform()
    loads = Counted(monkeypatch, FreshClassifier, "load")
    loaded = LoadedClassifiers(jobs)
    first = loaded.finished(identifier)
    assert loaded.finished(identifier) is first
    assert loaded.current(identifier) == (first, "classifier")
    assert loads.calls == 1


def test_prototypes_predict_during_a_training_without_reading_its_task(
    jobs: TrainingJobs, backend: ManualBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = in_training(jobs)
    parsed, loads = (Counted(monkeypatch, owner, "from_bytes") for owner in (TrainingTask, PrototypeClassifier))
    loaded = LoadedClassifiers(jobs)
    first, source = loaded.current(identifier)
    assert loaded.current(identifier) == (first, source)
    assert (source, parsed.calls, loads.calls) == ("prototypes", 0, 1)
    backend.perform()
    assert loaded.current(identifier)[1] == "classifier"


def test_a_classifier_whose_file_was_replaced_is_read_again(jobs: TrainingJobs, backend: ManualBackend) -> None:
    identifier = jobs.submit(record(), training_task()).record.id
    backend.perform()
    loaded = LoadedClassifiers(jobs)
    first = loaded.finished(identifier)
    path = jobs.finished_file(identifier)
    path.with_suffix(".other").write_bytes(path.read_bytes())
    os.replace(path.with_suffix(".other"), path)
    assert loaded.finished(identifier) is not first


def test_a_deleted_classifier_is_not_found(jobs: TrainingJobs, backend: ManualBackend) -> None:
    identifier = jobs.submit(record(), training_task()).record.id
    backend.perform()
    loaded = LoadedClassifiers(jobs)
    loaded.finished(identifier)
    jobs.finished_file(identifier).unlink()
    with pytest.raises(NotFound):
        loaded.finished(identifier)
    jobs.delete(identifier)
    with pytest.raises(NotFound):
        loaded.current(identifier)


def test_the_cache_of_loaded_classifiers_is_bounded(jobs: TrainingJobs, backend: ManualBackend) -> None:
    names = ["one", "two"]
    for seed, name in enumerate(names):
        jobs.submit(record(name), training_task(seed=seed))
        backend.perform()
    size = jobs.finished_file("one").stat().st_size
    roomy, narrow = LoadedClassifiers(jobs, 8 * size), LoadedClassifiers(jobs, size)
    for loaded, kept in ((roomy, True), (narrow, False)):
        first = [loaded.finished(name) for name in names]
        assert [loaded.finished(name) is each for name, each in zip(names, first, strict=True)] == [kept] * 2
