"""Training requests: their states, their events, their files, and who shares them."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from pytest import MonkeyPatch

from recall_server.errors import Conflict, InvalidRequest, NotFound, NotReady, Overloaded, StorageFailed, Unavailable
from recall_server.jobs.limits import Admission
from recall_server.jobs.rows import records, transitions
from recall_server.jobs.rows.records import JobError, JobStatus, Progress, now
from tests.recall_server.job_examples import jobs_with, key, names, record, training_task
from tests.recall_server.serving_examples import ManualBackend
from tests.suite.waiting import PATIENCE


def test_a_job_is_queued_running_and_succeeded(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    submitted = jobs.submit(record(), training_task())
    assert submitted.created
    identifier = submitted.record.id
    assert jobs.get(identifier) == submitted.record
    assert submitted.record.status is JobStatus.QUEUED
    assignment = backend.begin()
    assert backend.source.progressed(assignment, Progress(done=3, total=30, loss=0.5))
    running = jobs.get(identifier)
    assert (running.status, running.progress) == (JobStatus.RUNNING, Progress(done=3, total=30, loss=0.5))
    assert running.started_at is not None
    with pytest.raises(NotReady, match="it is running"):
        jobs.read(identifier)
    backend.perform(assignment)
    done = jobs.get(identifier)
    assert (done.status, done.status.is_terminal, done.attempt) == (JobStatus.SUCCEEDED, True, 1)
    assert done.file is not None
    assert done.finished_at is not None
    assert done.created_at <= running.started_at <= done.finished_at
    assert len(jobs.read(identifier)) == done.file.bytes
    assert jobs.finished_file(identifier).read_bytes() == jobs.read(identifier)
    assert done.progress == Progress(done=30, total=30, loss=0.5)
    assert names(tmp_path / "tasks") == set()


def test_events_of_a_job_are_in_order(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    identifier = jobs.submit(record(), training_task()).record.id
    events = jobs.events(identifier)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert [event.status for event in events if event.kind == "status"] == ["queued", "running", "succeeded"]
    done = [event.progress.done for event in events if event.progress]
    assert (done[0], done[-1]) == (1, 30)
    assert done == sorted(set(done)), "how many are noted in between is a matter of time"
    assert jobs.events(identifier, after=2, limit=2) == events[2:4]
    assert jobs.events(identifier, after=len(events)) == []
    with pytest.raises(NotFound):
        jobs.events("nobody")


def test_a_page_continues_after_the_previous_one(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path)
    for index in range(5):
        jobs.submit(record(f"{index}"), training_task(seed=index))
    first = jobs.page(2)
    assert [each.id for each in first.entries] == ["4", "3"]
    jobs.submit(record("newer"), training_task(seed=9))
    jobs.delete("2")
    second = jobs.page(2, first.next)
    assert ([each.id for each in second.entries], second.next) == (["1", "0"], None)
    assert jobs.page(9).next is None
    for cursor in ("x", "-1", "", "9" * 30, "9" * 10, "\u0663"):
        with pytest.raises(InvalidRequest, match="must be the `next`") as caught:
            jobs.page(2, cursor)
        assert caught.value.parameter == "cursor"


def test_jobs_are_kept_across_a_restart(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    jobs.submit(record("done"), training_task())
    backend.perform()
    jobs.submit(record("running"), training_task(seed=1))
    jobs.submit(record("queued"), training_task(seed=2))
    backend.begin()
    before = jobs.get("done")
    jobs.stop()
    again = jobs_with(ManualBackend(eager=True), tmp_path)
    assert again.get("done") == before
    assert [(each.id, each.status, each.attempt) for each in again.records(again.page(9).entries)] == [
        ("queued", JobStatus.SUCCEEDED, 1),
        ("running", JobStatus.SUCCEEDED, 2),
        ("done", JobStatus.SUCCEEDED, 1),
    ]
    assert again.read("running")
    assert names(tmp_path / "tasks") == set()


def test_identical_requests_share_one_job_and_one_file(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    first = jobs.submit(record("first"), training_task())
    for _ in range(3):  # queued, running, succeeded
        shared = jobs.submit(record("again"), training_task())
        assert (shared.record.id, shared.created) == ("first", False)
        if jobs.get("first").status is JobStatus.QUEUED:
            assignment = backend.begin()
        elif jobs.get("first").status is JobStatus.RUNNING:
            backend.perform(assignment)
    assert first.created
    assert jobs.submit(record("other"), training_task(seed=4)).created
    assert names(tmp_path / "classifiers") == {"first.safetensors"}
    assert names(tmp_path / "tasks") == {"other.safetensors"}


@pytest.mark.parametrize("end", ["cancelled", "failed", "deleted"])
def test_a_request_identical_to_a_failed_one_is_trained(tmp_path: Path, end: str) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    jobs.submit(record("first"), training_task())
    if end == "failed":
        backend.source.failed(backend.begin(), JobError(kind="TrainingFailed", detail="of all things"))
    else:
        (jobs.cancel if end == "cancelled" else jobs.delete)("first")
    assert jobs.submit(record("second"), training_task()).record.id == "second"


def test_a_classifier_whose_file_is_missing_is_trained_again(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    jobs.submit(record("first"), training_task(), key=key("k"))
    jobs.finished_file("first").unlink()
    with pytest.raises(NotFound, match="the file of the classifier first is gone"):
        jobs.read("first")
    again = jobs.submit(record("second"), training_task(), key=key("k"))
    assert (again.record.id, again.created) == ("second", True)
    assert jobs.read("second")
    lost = jobs.get("first")
    assert (lost.status, lost.file) == (JobStatus.FAILED, None)
    assert lost.error == JobError(kind="StorageFailed", detail="the file of this classifier is missing")


def test_an_idempotency_key_returns_its_job_in_any_state(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    first = jobs.submit(record("first"), training_task(), key=key("k", caller="me"))
    assert first.created
    jobs.cancel("first")
    again = jobs.submit(record("second"), training_task(seed=9), key=key("k", caller="me"))
    assert (again.record.id, again.record.status, again.created) == ("first", JobStatus.CANCELLED, False)
    assert jobs.known(key("k", caller="me")) == again.record
    assert jobs.known(key("k", caller="you")) is None
    with pytest.raises(Conflict, match="came with another request"):
        jobs.submit(record("third"), training_task(seed=4), key=key("k", "another", caller="me"))
    assert jobs.submit(record("fourth"), training_task(seed=4), key=key("k", caller="you")).created
    jobs.delete("first")
    assert jobs.submit(record("fifth"), training_task(seed=5), key=key("k", caller="me")).created


def test_an_idempotency_key_of_a_shared_job_returns_that_job(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path)
    jobs.submit(record("first"), training_task(), key=key("one"))
    assert not jobs.submit(record("second"), training_task(), key=key("two")).created
    with pytest.raises(Conflict):
        jobs.submit(record("third"), training_task(seed=4), key=key("two", "another"))


def test_the_queue_is_limited_and_refusals_have_retry_after(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path, queue=2)
    assert jobs.room() == Admission(accepting=True, reason="", retry_after=0, queued=0, limit=2)
    for index in range(2):
        jobs.submit(record(f"{index}"), training_task(seed=index))
    room = jobs.room()
    assert (room.accepting, room.reason, room.queued, room.limit) == (False, "full", 2, 2)
    assert 1 <= room.retry_after <= 120
    with pytest.raises(Overloaded, match="2 trainings wait already") as refused:
        jobs.submit(record("surplus"), training_task(seed=9))
    assert 1 <= refused.value.retry_after <= 120
    assert not jobs.submit(record("shared"), training_task(seed=0)).created, "what is there already needs no room"
    assert names(tmp_path / "tasks") == {"0.safetensors", "1.safetensors"}
    backend.begin()
    assert jobs.room().accepting
    assert jobs.submit(record("next"), training_task(seed=9)).created


def test_simultaneous_requests_are_accepted_exactly_up_to_the_limit(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path, queue=5)
    accepted: list[str] = []

    def submit(index: int) -> None:
        try:
            accepted.append(jobs.submit(record(f"{index}"), training_task(seed=index)).record.id)
        except Overloaded:
            return

    threads = [threading.Thread(target=submit, args=(index,)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) == 5
    assert {each.id for each in jobs.records(jobs.page(99).entries)} == set(accepted)


def test_a_server_that_cannot_train_says_so(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    backend.state = "failed"
    assert jobs.room().reason == "no worker"
    with pytest.raises(Unavailable, match="no worker"):
        jobs.submit(record(), training_task())
    backend.state = "restarting"
    assert jobs.room().accepting
    jobs.begin_drain()
    assert jobs.room().reason == "draining"
    with pytest.raises(Unavailable, match="draining") as refused:
        jobs.submit(record(), training_task())
    assert refused.value.retry_after > 0
    assert jobs.page(9).entries == ()
    assert names(tmp_path / "tasks") == set()


def test_cancelling_a_queued_job_is_final(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record(), training_task()).record.id
    first = jobs.cancel(identifier)
    assert (first.status, backend.cancelled) == (JobStatus.CANCELLED, [identifier])
    assert backend.source.take() is None
    assert jobs.cancel(identifier) == first
    assert backend.cancelled == [identifier]
    assert names(tmp_path / "tasks") == set()
    with pytest.raises(NotReady, match="it is cancelled"):
        jobs.finished_file(identifier)


def test_cancelling_a_finished_job_changes_nothing(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    identifier = jobs.submit(record(), training_task()).record.id
    assert jobs.cancel(identifier).status is JobStatus.SUCCEEDED
    assert jobs.read(identifier)


def test_deleting_removes_record_events_and_file(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(eager=True), tmp_path)
    identifier = jobs.submit(record(), training_task()).record.id
    jobs.delete(identifier)
    assert names(tmp_path / "classifiers") == set()
    for verb in (jobs.get, jobs.delete, jobs.cancel, jobs.events, jobs.read):
        with pytest.raises(NotFound):
            verb(identifier)


def test_a_task_that_cannot_be_stored_is_refused_before_it_is_queued(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path)
    shutil.rmtree(tmp_path / "tasks")
    (tmp_path / "tasks").touch()
    # Maintenance, in its own thread, may have noticed already.
    with pytest.raises((StorageFailed, Unavailable), match=r"could not be written|cannot train .* storage"):
        jobs.submit(record(), training_task())
    assert jobs.page(9).entries == ()


def test_a_job_never_ends_before_its_start_if_the_clock_is_set_back(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record(), training_task()).record.id
    for module in (records, transitions):
        monkeypatch.setattr(module, "now", lambda: now() - timedelta(days=400))
    backend.perform()
    done = jobs.get(identifier)
    assert done.status is JobStatus.SUCCEEDED
    assert done.started_at is not None
    assert done.finished_at is not None
    assert done.created_at <= done.started_at <= done.finished_at


def test_running_jobs_are_given_the_time_to_end_when_the_server_stops(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    jobs.submit(record("running"), training_task())
    jobs.submit(record("queued"), training_task(seed=4))
    assignment = backend.begin()
    threading.Timer(0.2, backend.perform, [assignment]).start()
    jobs.stop(drain_seconds=PATIENCE)
    assert (jobs.get("running").status, jobs.get("queued").status) == (JobStatus.SUCCEEDED, JobStatus.QUEUED)
    assert backend.source.take() is None
    jobs.stop()


def test_statistics_count_jobs_and_their_seconds(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    for index in range(4):
        jobs.submit(record(f"{index}", created_at=now() - timedelta(seconds=50)), training_task(seed=index))
    backend.perform()
    backend.begin()
    jobs.cancel("3")
    statistics = jobs.statistics()
    assert (statistics.queued, statistics.running, statistics.retries) == (1, 1, 0)
    assert 50 <= statistics.oldest_queued_seconds < 60
    assert statistics.finished == {JobStatus.SUCCEEDED: 1, JobStatus.FAILED: 0, JobStatus.CANCELLED: 1}
    assert statistics.seconds_by_stage["training"].count == 1
    assert statistics.seconds_by_stage["training"].seconds == 0.5
    assert statistics.seconds_by_stage["queue"].count == 2
    assert 100 <= statistics.seconds_by_stage["queue"].seconds < 120
