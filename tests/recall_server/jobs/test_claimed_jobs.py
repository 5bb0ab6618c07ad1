"""What workers report: when it counts, and what becomes of a report that cannot be recorded."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.errors import NotFound, StorageBusy, StorageFailed
from recall_server.jobs import claimed_jobs
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.records import ClassifierRecord, JobError, JobStatus, Progress
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.rows.table import jobs as job_table
from recall_server.jobs.rows.transitions import Claim
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.jobs.workers.backend import Assignment
from tests.recall_server.job_examples import DIVERGING, files, jobs_with, names, record, silence, training_task
from tests.recall_server.serving_examples import ManualBackend
from tests.suite.waiting import eventually


def submitted(folder: Path) -> tuple[ManualBackend, TrainingJobs, str]:
    """A training that waits, and its identifier."""
    backend = ManualBackend()
    jobs = jobs_with(backend, folder)
    return backend, jobs, jobs.submit(record(), training_task()).record.id


def test_an_end_that_could_not_be_recorded_is_recorded_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record("x"), training_task()).record.id

    def full(*_: object, **__: object) -> None:
        raise StorageFailed("the job table cannot be used: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SqlJobStore, "succeeded", full)
        backend.perform()
    assert jobs.get(identifier).status is JobStatus.RUNNING
    eventually(lambda: jobs.get(identifier).status is JobStatus.QUEUED, "somebody notices that nobody works on it")
    backend.perform()
    assert jobs.get(identifier).status is JobStatus.SUCCEEDED
    jobs._maintenance.clean()
    assert files(tmp_path) == {"x.2.safetensors"}


def test_a_classifier_is_kept_if_its_end_was_recorded_but_the_reply_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, jobs, identifier = submitted(tmp_path)
    succeeded = SqlJobStore.succeeded

    def write_and_break(*arguments: Any) -> None:
        succeeded(*arguments)
        raise StorageFailed("the job table cannot be used: the connection was closed")

    monkeypatch.setattr(SqlJobStore, "succeeded", write_and_break)
    backend.perform()
    assert jobs.get(identifier).status is JobStatus.SUCCEEDED
    assert jobs.read(identifier)


@pytest.mark.parametrize("moment", ["before the table is read", "after the loss is written"])
def test_a_lost_attempt_does_not_end_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    silence(jobs)
    jobs.submit(record(), training_task())
    first = backend.begin()
    held, lost, again = SqlJobStore.held, SqlJobStore.lost, list[Assignment]()

    def lose_and_hold(store: SqlJobStore, owner: str) -> set[Claim]:
        backend.source.lost(first, "it fell over")
        again.append(backend.begin())
        return held(store, owner)

    def lose_and_begin(store: SqlJobStore, claim: Claim, reason: str, *, attempts: int) -> ClassifierRecord | None:
        waiting = lost(store, claim, reason, attempts=attempts)
        again.append(backend.begin())
        return waiting

    if moment == "before the table is read":
        monkeypatch.setattr(SqlJobStore, "held", lose_and_hold)
        jobs._maintenance.check()
    else:
        monkeypatch.setattr(SqlJobStore, "lost", lose_and_begin)
        backend.source.lost(first, "it fell over")
    (second,) = again
    assert second.attempt == 2
    assert backend.cancelled == []
    assert backend.source.progressed(second, Progress(done=1, total=2))


def test_a_job_that_cannot_be_read_is_left_to_a_server_that_can(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    jobs.submit(record(), training_task())
    with jobs._store.database.writing() as connection:
        connection.execute(update(job_table).values(request='{"network": 7}'))
    assert backend.source.take() is None
    assert jobs._store.count(JobStatus.QUEUED) == 1


def test_a_slow_table_is_not_written_for_every_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def slow(_: object, claim: Claim, progress: Progress) -> bool:
        written.append(progress.done)
        time.sleep(0.1)
        return True

    monkeypatch.setattr(SqlJobStore, "progressed", slow)
    monkeypatch.setattr(claimed_jobs, "SECONDS_BETWEEN_NOTES", 0.05)
    backend, _, _ = submitted(tmp_path)
    assignment = backend.begin()
    for done in range(1, 6):
        assert backend.source.progressed(assignment, Progress(done=done, total=1000))
    assert written == [1]


@pytest.mark.parametrize("verb", ["cancel", "delete"])
@pytest.mark.parametrize("moment", ["before the file is written", "after the file is written"])
def test_a_job_deleted_while_its_classifier_is_stored_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, moment: str
) -> None:
    backend, jobs, identifier = submitted(tmp_path)
    save = ClassifierFiles.save

    def interrupted(*arguments: Any) -> None:
        if moment == "before the file is written":
            getattr(jobs, verb)(identifier)
        save(*arguments)
        if moment == "after the file is written":
            getattr(jobs, verb)(identifier)

    monkeypatch.setattr(ClassifierFiles, "save", interrupted)
    backend.perform()
    assert files(tmp_path) == set()


def test_progress_is_recorded_periodically_and_at_the_end(tmp_path: Path) -> None:
    backend, jobs, identifier = submitted(tmp_path)
    assignment = backend.begin()
    for done in range(1, 1001):
        assert backend.source.progressed(assignment, Progress(done=done, total=1000))
    before = len(jobs.events(identifier, limit=1000))
    backend.source.succeeded(assignment, b"a file", 1.0)
    events = jobs.events(identifier, limit=1000)
    noted = [event.progress.done for event in events if event.progress]
    assert noted[0] == 1
    assert noted[-1] == 1000
    assert len(noted) < 20
    last, end = events[before:]  # in one transaction: the last progress waits for the end
    assert last.progress is not None
    assert end.status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("verb", ["cancel", "delete"])
@pytest.mark.parametrize("word", ["progressed", "succeeded", "failed", "lost", "returned"])
def test_reports_of_a_worker_after_the_end_are_ignored(tmp_path: Path, verb: str, word: str) -> None:
    backend, jobs, identifier = submitted(tmp_path)
    assignment = backend.begin()
    getattr(jobs, verb)(identifier)
    if word == "progressed":
        assert not backend.source.progressed(assignment, Progress(done=1, total=2))
    elif word == "succeeded":
        backend.source.succeeded(assignment, b"a file", 1.0)
    elif word == "failed":
        backend.source.failed(assignment, JobError(kind="TrainingFailed", detail="too late"))
    elif word == "lost":
        backend.source.lost(assignment, "too late")
    else:
        backend.source.returned(assignment)
    assert names(tmp_path / "classifiers") == names(tmp_path / "tasks") == set()
    if verb == "cancel":
        assert jobs.get(identifier).status is JobStatus.CANCELLED
    else:
        with pytest.raises(NotFound):
            jobs.get(identifier)


def test_a_job_is_retried_if_its_worker_dies_and_then_fails(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path, attempts=2)
    identifier = jobs.submit(record(), training_task()).record.id
    backend.source.lost(backend.begin(), "it fell over")
    waiting = jobs.get(identifier)
    assert (waiting.status, waiting.started_at, waiting.progress, waiting.error) == (JobStatus.QUEUED, None, None, None)
    told = jobs.events(identifier)[-1]
    assert told.error == JobError(kind="WorkerLost", detail="attempt 1 of 2 was lost: it fell over")
    second = backend.begin()
    assert (second.attempt, jobs.get(identifier).attempt) == (2, 2)
    backend.source.lost(second, "again")
    failed = jobs.get(identifier)
    assert failed.status is JobStatus.FAILED
    assert failed.error == JobError(kind="WorkerLost", detail="attempt 2 of 2 was lost: again")
    assert failed.finished_at is not None
    assert names(tmp_path / "tasks") == set()
    assert jobs.statistics().retries == 1


@pytest.mark.parametrize(("what", "attempts"), [("task", 1), ("save", 2)])
def test_a_lack_of_file_handles_costs_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, attempts: int
) -> None:
    def busy(*_: object) -> None:
        raise StorageBusy("a file cannot be used: Too many open files")

    backend, jobs, identifier = submitted(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ClassifierFiles, what, busy)
        if what == "task":
            assert backend.source.take() is None
        else:
            backend.perform()
    assert jobs.get(identifier).status is JobStatus.QUEUED
    backend.perform()
    done = jobs.get(identifier)
    assert done.status is JobStatus.SUCCEEDED
    assert jobs.statistics().retries == attempts - 1


def test_a_second_attempt_can_succeed(tmp_path: Path) -> None:
    backend, jobs, identifier = submitted(tmp_path)
    backend.source.lost(backend.begin(), "it fell over")
    backend.perform()
    done = jobs.get(identifier)
    assert (done.status, done.attempt, done.error) == (JobStatus.SUCCEEDED, 2, None)
    assert FreshClassifier.load(jobs.finished_file(identifier)).labels == done.labels
    jobs.delete(identifier)
    assert names(tmp_path / "classifiers") == set()


def test_training_that_diverges_fails_with_the_reason(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    failed = jobs.get(jobs.submit(record(), training_task(targets=DIVERGING)).record.id)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert failed.error.kind == "TrainingFailed"
    assert "diverged" in failed.error.detail
    assert failed.finished_at is not None


def test_a_missing_task_file_fails_only_its_own_job(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    jobs.submit(record("first"), training_task())
    jobs.submit(record("next"), training_task(seed=4))
    (tmp_path / "tasks" / "first.safetensors").unlink()
    backend.perform()
    assert jobs.get("first").error == JobError(kind="StorageFailed", detail="the task of the classifier first is gone")
    assert jobs.get("next").status is JobStatus.SUCCEEDED


def test_a_classifier_that_cannot_be_stored_fails_its_job_and_leaves_nothing(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record("x"), training_task()).record.id
    shutil.rmtree(tmp_path / "classifiers")
    (tmp_path / "classifiers").touch()
    backend.perform()
    failed = jobs.get(identifier)
    assert failed.error is not None
    assert failed.error.kind == "StorageFailed"
    assert failed.error.detail.startswith("x.safetensors could not be written")
    assert str(tmp_path) not in failed.error.detail
    assert names(tmp_path / "tasks") == set()
