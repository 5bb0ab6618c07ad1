"""Training requests: their states, and their files."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from recall_server.classifier import FreshClassifier
from recall_server.errors import NotFound, NotReady, StorageFailed
from recall_server.jobs import files as files_module
from recall_server.jobs.records import FinishedFile, JobError, JobStatus, Progress
from recall_server.jobs.store import MemoryJobStore
from recall_server.jobs.task import TrainingTask
from tests.recall_server.job_examples import DIVERGING, PATIENCE, jobs_with, record, training_task
from tests.recall_server.serving_examples import ManualBackend


def test_a_task_survives_being_sent_and_trains_to_the_same_file(tmp_path: Path) -> None:
    sent = training_task()
    received = TrainingTask.from_bytes(sent.to_bytes())
    assert received.to_bytes() == sent.to_bytes()
    sent.train(tmp_path / "one", device="cpu")
    received.train(tmp_path / "other", device="cpu")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert FreshClassifier.load(tmp_path / "one").extra == {"bundle": "x"}


def test_the_store_lists_the_newest_first_and_refuses_an_id_twice() -> None:
    store = MemoryJobStore([record("1"), record("2")])
    store.add(record("3"))
    assert [found.id for found in store.newest(2)] == ["3", "2"]
    assert [found.id for found in store.newest(9)] == ["3", "2", "1"]
    with pytest.raises(ValueError, match="a record 3 already"):
        store.add(record("3"))


def test_a_change_is_made_only_from_the_states_it_names() -> None:
    store = MemoryJobStore([record("1")])
    assert store.change("1", [JobStatus.RUNNING], lambda _: pytest.fail("must not be called")) is None
    changed = store.change("1", [JobStatus.QUEUED], lambda found: found.model_copy(update={"seed": 9}))
    assert changed is not None
    assert store.get("1").seed == 9
    assert store.change("2", list(JobStatus), lambda found: found) is None


def test_what_was_removed_is_gone() -> None:
    store = MemoryJobStore([record("1")])
    assert store.remove("1").id == "1"
    for verb in (store.get, store.remove):
        with pytest.raises(NotFound, match="no classifier has the id '1'"):
            verb("1")


def test_a_job_is_queued_running_and_succeeded(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    submitted = jobs.submit(record(), training_task())
    assert submitted.status is JobStatus.QUEUED
    backend.listener.started(submitted.id)
    backend.listener.progressed(submitted.id, Progress(done=3, total=30, loss=0.5))
    running = jobs.get(submitted.id)
    assert (running.status, running.progress) == (JobStatus.RUNNING, Progress(done=3, total=30, loss=0.5))
    assert running.started_at is not None
    with pytest.raises(NotReady, match="it is running"):
        jobs.read(submitted.id)
    backend.perform()
    done = jobs.get(submitted.id)
    assert done.status is JobStatus.SUCCEEDED
    assert done.status.is_terminal
    assert done.file is not None
    assert done.finished_at is not None
    assert len(jobs.read(submitted.id)) == done.file.bytes
    assert done.progress == Progress(done=30, total=30, loss=0.5)
    assert list((tmp_path / "work").iterdir()) == []


def test_finished_classifiers_are_found_again_after_a_restart(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    for identifier in ("b", "a"):
        jobs.submit(record(identifier), training_task())
    unfinished = jobs_with(ManualBackend(), tmp_path).submit(record("c"), training_task())
    again = jobs_with(ManualBackend(), tmp_path)
    assert [found.id for found in again.newest(9)] == ["a", "b"]
    assert again.get("a") == jobs.get("a")
    assert again.read("a") == jobs.read("a")
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(NotFound):
        again.get(unfinished.id)


@pytest.mark.parametrize("damage", ["no file", "shorter file", "no json", "foreign record"])
def test_a_damaged_classifier_is_left_out_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    for identifier in ("good", "bad"):
        jobs.submit(record(identifier), training_task())
    file, note = (tmp_path / "classifiers" / f"bad{suffix}" for suffix in (".safetensors", ".json"))
    if damage == "no file":
        file.unlink()
    elif damage == "shorter file":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "no json":
        note.write_text("{")
    else:
        note.write_text(json.dumps(json.loads(note.read_text()) | {"id": "good"}))
    with caplog.at_level(logging.ERROR):
        again = jobs_with(ManualBackend(), tmp_path)
    assert [found.id for found in again.newest(9)] == ["good"]
    assert "classifier bad cannot be used" in caplog.text
    assert note.exists()


def test_cancelling_a_queued_job_tells_the_backend_and_is_final(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record(), training_task()).id
    assert jobs.cancel(identifier).status is JobStatus.CANCELLED
    assert backend.cancelled == [identifier]
    first = jobs.get(identifier)
    backend.listener.failed(identifier, JobError(kind="TrainingFailed", detail="too late"))
    assert jobs.cancel(identifier) == first
    assert backend.cancelled == [identifier]
    with pytest.raises(NotReady, match="it is cancelled"):
        jobs.finished_file(identifier)


def test_cancelling_a_finished_job_changes_nothing(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    identifier = jobs.submit(record(), training_task()).id
    assert jobs.cancel(identifier).status is JobStatus.SUCCEEDED
    assert jobs.read(identifier)


@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_a_success_that_comes_after_the_end_leaves_no_file(tmp_path: Path, verb: str) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record(), training_task()).id
    task, path = backend.waiting[identifier]
    backend.listener.started(identifier)
    getattr(jobs, verb)(identifier)
    task.train(path, device="cpu")
    backend.listener.succeeded(identifier, FinishedFile(bytes=path.stat().st_size, sha256="0" * 64), 1.0)
    assert list((tmp_path / "classifiers").iterdir()) == []
    assert list((tmp_path / "work").iterdir()) == []
    if verb == "cancel":
        assert jobs.get(identifier).status is JobStatus.CANCELLED


def test_deleting_removes_record_and_file(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    identifier = jobs.submit(record(), training_task()).id
    jobs.delete(identifier)
    assert list((tmp_path / "classifiers").iterdir()) == []
    for verb in (jobs.get, jobs.delete, jobs.cancel):
        with pytest.raises(NotFound):
            verb(identifier)


def test_training_that_diverges_fails_with_the_reason(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    failed = jobs.get(jobs.submit(record(), training_task(targets=DIVERGING)).id)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert failed.error.kind == "TrainingFailed"
    assert "diverged" in failed.error.detail
    assert failed.finished_at is not None


def test_a_full_disk_fails_the_job_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise StorageFailed("the record could not be written: No space left on device")

    monkeypatch.setattr(files_module, "write_atomically", full)
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    failed = jobs.get(jobs.submit(record(), training_task()).id)
    assert failed.status is JobStatus.FAILED
    assert failed.error == JobError(
        kind="StorageFailed", detail="the record could not be written: No space left on device"
    )
    assert list((tmp_path / "classifiers").iterdir()) == []
    assert list((tmp_path / "work").iterdir()) == []


def test_no_space_for_a_job_is_said_before_it_is_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StorageFailed, match="^the state folder cannot be written: No space left on device$"):
        jobs.submit(record(), training_task())
    assert jobs.newest(9) == []


def test_waiting_ends_with_the_job_or_with_the_time(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record(), training_task()).id

    async def scenario() -> list[JobStatus]:
        impatient = await jobs.wait(identifier, 0.01)
        patient = [asyncio.create_task(jobs.wait(identifier, PATIENCE)) for _ in range(2)]
        left = asyncio.create_task(jobs.wait(identifier, PATIENCE))
        await asyncio.sleep(0.01)
        left.cancel()  # a caller who goes away must not take the others' news along
        threading.Thread(target=backend.perform).start()
        return [impatient.status, *[(await task).status for task in patient], (await jobs.wait(identifier, 1)).status]

    queued, *finished = asyncio.run(scenario())
    assert queued is JobStatus.QUEUED
    assert finished == [JobStatus.SUCCEEDED] * 3


def test_whoever_waits_is_let_go_when_the_server_stops(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path)
    identifier = jobs.submit(record(), training_task()).id

    async def scenario() -> JobStatus:
        waiting = asyncio.create_task(jobs.wait(identifier, PATIENCE))
        await asyncio.sleep(0.01)
        jobs.end_waits()
        return (await asyncio.wait_for(waiting, 5)).status

    assert asyncio.run(scenario()) is JobStatus.QUEUED
    assert asyncio.run(jobs.wait(identifier, PATIENCE)).status is JobStatus.QUEUED


def test_waiting_for_nobody_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        asyncio.run(jobs_with(ManualBackend(), tmp_path).wait("nobody", 1))
