"""The state folder: which files of tasks and classifiers are removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from recall_server.jobs.limits import JobLimits
from recall_server.jobs.rows.files import FORGOTTEN_SECONDS, ClassifierFiles
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.training_jobs import TrainingJobs
from tests.recall_server.job_examples import database, jobs_with, record, training_task
from tests.recall_server.serving_examples import ManualBackend


def test_files_left_by_a_crash_are_removed(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    for index, name in enumerate(("done", "running", "queued")):
        jobs.submit(record(name), training_task(seed=index))
    backend.perform()
    backend.begin()
    classifiers, tasks = tmp_path / "classifiers", tmp_path / "tasks"
    for path in (
        classifiers / "new.safetensors",  # about to be recorded, as are the next two
        classifiers / "running.safetensors",
        tasks / "new.safetensors",
        classifiers / "done.2.safetensors",
        classifiers / "running.7.safetensors",
        classifiers / "queued.safetensors",
        tasks / "done.safetensors",
    ):
        path.touch()
    for path in (classifiers / "unknown.safetensors", tasks / "unknown.safetensors"):
        age(path)
    jobs._maintenance.clean()
    assert {path.stem for path in classifiers.iterdir()} == {"done", "running", "new"}
    assert {path.stem for path in tasks.iterdir()} == {"running", "queued", "new"}


def test_a_clock_that_is_wrong_by_hours_removes_no_draft_of_another_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path)
    draft = tmp_path / "classifiers" / ".theirs.safetensors-1.tmp"
    draft.touch()
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 2 * FORGOTTEN_SECONDS)
    jobs._maintenance.clean()
    assert draft.exists()
    monkeypatch.undo()
    age(draft)
    jobs._maintenance.clean()
    assert not draft.exists()


def age(path: Path) -> None:
    """Make a file that nobody has touched for long."""
    path.touch()
    os.utime(path, times=(time.time() - 2 * FORGOTTEN_SECONDS,) * 2)


def test_classifiers_of_another_table_are_kept(tmp_path: Path) -> None:
    jobs_with(ManualBackend(), tmp_path).stop()
    age(tmp_path / "classifiers" / "theirs.safetensors")
    (tmp_path / "mine").mkdir()
    store = SqlJobStore.open(database(tmp_path / "mine"))
    jobs = TrainingJobs(store, ClassifierFiles(tmp_path), ManualBackend(), JobLimits())
    jobs.open()
    jobs._maintenance.clean()
    assert {path.stem for path in (tmp_path / "classifiers").iterdir()} == {"theirs"}
    store.close()
