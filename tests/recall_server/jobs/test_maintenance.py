"""Servers that share a table and a state folder, what happens when one dies, and what expires."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recall_server.errors import Conflict, NotFound
from recall_server.jobs import maintenance
from recall_server.jobs.cautious_clock import CautiousClock
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.maintenance import Maintenance
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.leases import Lease
from recall_server.jobs.rows.records import JobError, JobStatus, Progress
from recall_server.jobs.rows.table import request_of
from recall_server.jobs.training_jobs import TrainingJobs
from tests.recall_server.job_examples import Pair, files, jobs_with, key, record, silence, training_task
from tests.recall_server.serving_examples import ManualBackend
from tests.suite.waiting import PATIENCE, eventually


def test_any_server_answers_for_any_job_and_each_is_trained_once(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    for index in range(6):
        (pair.one, pair.other)[index % 2].submit(record(f"{index}"), training_task(seed=index))
    taken: list[str] = []

    def train(backend: ManualBackend) -> None:
        while (assignment := backend.source.take()) is not None:
            taken.append(assignment.identifier)
            backend.perform(assignment)

    threads = [threading.Thread(target=train, args=(backend,)) for backend in pair.backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [f"{index}" for index in range(6)]
    assert pair.one.page(9) == pair.other.page(9)
    for identifier in taken:
        assert pair.one.get(identifier).status is JobStatus.SUCCEEDED
        assert pair.one.read(identifier) == pair.other.read(identifier)
    assert pair.one.events("0") == pair.other.events("0")


def test_identical_requests_to_two_servers_share_one_job_and_one_key(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    assert pair.one.submit(record("first"), training_task(), key=key("k")).created
    assert pair.other.submit(record("second"), training_task()).record.id == "first"
    with pytest.raises(Conflict):
        pair.other.submit(record("third"), training_task(seed=4), key=key("k", "another"))


def test_simultaneous_requests_with_one_new_key_share_a_job(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.one.submit(record("first"), training_task())
    with ThreadPoolExecutor(8) as threads:
        for attempt in range(5):
            submitted = [
                threads.submit(jobs.submit, record("again"), training_task(), key=key(f"{attempt}"))
                for jobs in (pair.one, pair.other) * 4
            ]
            assert {each.result().record.id for each in submitted} == {"first"}


def test_a_cancellation_reaches_the_server_that_runs_the_job(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    identifier = pair.one.submit(record(), training_task()).record.id
    assignment = pair.backends[0].begin()
    assert pair.other.cancel(identifier).status is JobStatus.CANCELLED
    eventually(lambda: pair.backends[0].cancelled == [identifier], "it is told to stop")
    assert not pair.backends[0].source.progressed(assignment, Progress(done=1, total=2))


def test_jobs_of_a_dead_server_are_taken_over(tmp_path: Path) -> None:
    pair = Pair(tmp_path, lease_seconds=0.5)
    identifier = pair.one.submit(record("x"), training_task()).record.id
    late = pair.backends[0].begin()
    silence(pair.one)
    eventually(lambda: pair.other.get(identifier).status is JobStatus.QUEUED, "it is back in the queue")
    assert pair.other.events(identifier)[-1].error == JobError(
        kind="WorkerLost", detail="attempt 1 of 2 was lost: the server that trained this is gone"
    )
    again = pair.backends[1].begin()
    assert again.attempt == 2
    pair.backends[0].source.succeeded(late, b"from the dead", 1.0)
    assert files(tmp_path) == {"x.safetensors"}, "only the task"
    assert pair.other.get(identifier).status is JobStatus.RUNNING
    pair.backends[1].perform(again)
    assert pair.one.get(identifier).status is JobStatus.SUCCEEDED
    assert files(tmp_path) == {"x.2.safetensors"}
    assert pair.one.read(identifier) == pair.other.read(identifier) != b"from the dead"


def test_a_job_fails_if_its_servers_die_repeatedly(tmp_path: Path) -> None:
    pair = Pair(tmp_path, lease_seconds=0.3, attempts=1)
    identifier = pair.one.submit(record(), training_task()).record.id
    pair.backends[0].begin()
    silence(pair.one)
    eventually(lambda: pair.other.get(identifier).status is JobStatus.FAILED, "it is given up")
    error = pair.other.get(identifier).error
    assert error is not None
    assert error.kind == "WorkerLost"
    assert files(tmp_path) == set()


def test_a_living_server_keeps_its_jobs_for_longer_than_a_lease_whatever_other_work_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three servers, each with its own table: one whose `tidy` takes for ever, one whose `check` does, one as usual."""
    go_on, others = threading.Event(), {}
    for name, owner in {"tidy": ClassifierFiles, "check": Maintenance, "usual": None}.items():
        folder, stuck = tmp_path / name, threading.Event()
        with monkeypatch.context() as patch:
            if owner is not None:
                patch.setattr(owner, name, lambda *_, stuck=stuck: (stuck.set(), go_on.wait(PATIENCE)))
            one = jobs_with(backend := ManualBackend(), folder, lease_seconds=2.0)
            assert owner is None or stuck.wait(PATIENCE)
        others[name] = jobs_with(ManualBackend(), folder, lease_seconds=2.0)
        one.submit(record(name), training_task())
        backend.begin()
    time.sleep(3.5)  # beyond the lease, which is long enough for a busy machine
    running = {name: other.get(name) for name, other in others.items()}
    go_on.set()
    for name, found in running.items():
        assert (found.status, found.attempt) == (JobStatus.RUNNING, 1), name


def test_a_suspended_server_gives_up_its_jobs_and_continues(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    first = pair.one.submit(record("first"), training_task()).record.id
    pair.backends[0].begin()
    silence(pair.one)
    silence(pair.other)
    lease = Lease(pair.other._store.database, 0.0)  # an observer without patience
    assert lease.expire_leases() == 2
    pair.other._maintenance.take_over()
    pair.one._maintenance.heartbeat()  # notices
    assert pair.backends[0].cancelled == [first]
    assert pair.backends[0].begin().attempt == 2, "it trains on, under a new name"
    assert pair.one.get(first).status is JobStatus.RUNNING
    pair.other._maintenance.take_over()
    assert pair.one.get(first).status is JobStatus.RUNNING


def test_a_job_that_waits_too_long_expires(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path, queue_seconds=0.2)
    identifier = jobs.submit(record(), training_task()).record.id
    eventually(lambda: jobs.get(identifier).status.is_terminal, "it expires")
    assert jobs.get(identifier).error == JobError(
        kind="QueueExpired", detail="it waited longer than 0.2 seconds to be trained"
    )
    eventually(lambda: files(tmp_path) == set(), "its task goes, a moment after its row says so")
    assert jobs.room().queued == 0


def three_classifiers(state: Path, **limits: object) -> TrainingJobs:
    jobs = jobs_with(ManualBackend(eager=True), state, **limits)
    for index, name in enumerate(("old", "middle", "new")):
        jobs.submit(record(name), training_task(seed=index))
    return jobs


def test_old_classifiers_expire_with_their_records_and_files(tmp_path: Path) -> None:
    three_classifiers(tmp_path).stop()
    jobs = jobs_with(ManualBackend(), tmp_path, keep_seconds=0.0)
    jobs.submit(record("queued"), training_task(seed=9))
    jobs._maintenance.clean()
    assert [each.id for each in jobs.records(jobs.page(9).entries)] == ["queued"]
    assert files(tmp_path) == {"queued.safetensors"}
    with pytest.raises(NotFound):
        jobs.events("old")


def test_the_oldest_classifiers_expire_until_the_rest_is_small_enough(tmp_path: Path) -> None:
    jobs = three_classifiers(tmp_path, keep_seconds=None)
    file = jobs.get("old").file
    assert file is not None
    jobs.stop()
    jobs = jobs_with(
        ManualBackend(),
        tmp_path,
        keep_seconds=None,
        keep_bytes=2 * (file.bytes + len(request_of(record("old"))) + 5000),
    )
    jobs._maintenance.clean()
    assert [each.id for each in jobs.records(jobs.page(9).entries)] == ["new", "middle"]
    assert files(tmp_path) == {"new.safetensors", "middle.safetensors"}
    jobs._maintenance.clean()
    assert len(jobs.records(jobs.page(9).entries)) == 2


def test_mass_expiry_is_done_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "CLEANED_AT_ONCE", 2)
    jobs = three_classifiers(tmp_path)
    silence(jobs)
    jobs._maintenance._limits = JobLimits(keep_seconds=0.0)
    jobs._maintenance._clock = CautiousClock(0.0)
    jobs._maintenance.clean()
    assert [each.id for each in jobs.records(jobs.page(9).entries)] == ["new"]
    assert jobs._maintenance._cleaning.due <= time.monotonic() + maintenance.SECONDS_BETWEEN_CHECKS
    jobs._maintenance.clean()
    assert files(tmp_path) == set()


def hopeless(backend: ManualBackend) -> None:
    """The worker of this backend cannot be started."""
    backend.state, backend.fault = "failed", "No space left on device"


def test_jobs_that_nobody_can_train_fail_with_the_reason(tmp_path: Path) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    waiting = [jobs.submit(record(f"{index}"), training_task(seed=index)).record.id for index in range(3)]
    hopeless(backend)
    eventually(lambda: all(jobs.get(each).status is JobStatus.FAILED for each in waiting), "they have failed")
    reason = JobError(kind="WorkerLost", detail="no training process can be started: No space left on device")
    assert [jobs.get(each).error for each in waiting] == [reason] * 3


def test_jobs_wait_for_another_server_that_may_train_them(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    waiting = pair.one.submit(record(), training_task()).record.id
    hopeless(pair.backends[0])
    pair.one._maintenance.check()
    assert pair.one.get(waiting).status is JobStatus.QUEUED
    pair.backends[1].perform()
    assert pair.one.get(waiting).status is JobStatus.SUCCEEDED
