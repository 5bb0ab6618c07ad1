"""Servers that share a table and a state folder, what happens when one dies, and what expires."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from recall_server.errors import Conflict, NotFound, StorageFailed
from recall_server.jobs import maintenance, queue_ages
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.maintenance import Maintenance
from recall_server.jobs.queue_ages import QueueAges
from recall_server.jobs.rows.files import FORGOTTEN_SECONDS, ClassifierFiles
from recall_server.jobs.rows.leases import Lease
from recall_server.jobs.rows.records import ClassifierRecord, JobError, JobStatus, Progress, now
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.rows.table import jobs as job_table
from recall_server.jobs.rows.transitions import Claim
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.jobs.workers.backend import Assignment
from tests.recall_server.job_examples import (
    PATIENCE,
    database,
    eventually,
    jobs_with,
    key,
    record,
    training_task,
)
from tests.recall_server.serving_examples import ManualBackend


class Pair:
    """Two servers on one table and one state folder, with a backend each."""

    def __init__(self, state: Path, **limits: float) -> None:
        self.backends = ManualBackend(), ManualBackend()
        self.one, self.other = (jobs_with(backend, state, **limits) for backend in self.backends)


def silence(jobs: TrainingJobs) -> None:
    """As if the server were gone: no heartbeat, no maintenance. What its backend says can still arrive."""
    jobs._maintenance.stop()


def files(state: Path) -> set[str]:
    return {path.name for folder in ("classifiers", "tasks") for path in (state / folder).iterdir()}


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


def test_requests_that_bring_the_same_new_key_at_once_share_it_too(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.one.submit(record("first"), training_task())
    with ThreadPoolExecutor(8) as threads:
        for attempt in range(5):
            submitted = [
                threads.submit(jobs.submit, record("again"), training_task(), key=key(f"{attempt}"))
                for jobs in (pair.one, pair.other) * 4
            ]
            assert {each.result().record.id for each in submitted} == {"first"}


def test_whoever_waits_at_one_server_sees_what_another_one_does(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    identifier = pair.one.submit(record(), training_task()).record.id

    async def scenario() -> tuple[JobStatus, list[JobStatus]]:
        end = asyncio.create_task(pair.one.wait(identifier, PATIENCE))
        event = asyncio.create_task(pair.one.wait_for_events(identifier, after=1, seconds=PATIENCE))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(pair.backends[1].perform)
        return (await end).status, [each.status for each in await event][:1]

    assert asyncio.run(scenario()) == ("succeeded", ["running"])


def test_a_job_is_stopped_by_the_server_that_has_it_when_another_one_is_told_to(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    identifier = pair.one.submit(record(), training_task()).record.id
    assignment = pair.backends[0].begin()
    assert pair.other.cancel(identifier).status is JobStatus.CANCELLED
    eventually(lambda: pair.backends[0].cancelled == [identifier], "it is told to stop")
    assert not pair.backends[0].source.progressed(assignment, Progress(done=1, total=2))


def test_the_jobs_of_a_server_that_died_are_taken_over(tmp_path: Path) -> None:
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


def test_a_job_whose_servers_die_again_and_again_is_lost(tmp_path: Path) -> None:
    pair = Pair(tmp_path, lease_seconds=0.3, attempts=1)
    identifier = pair.one.submit(record(), training_task()).record.id
    pair.backends[0].begin()
    silence(pair.one)
    eventually(lambda: pair.other.get(identifier).status is JobStatus.FAILED, "it is given up")
    error = pair.other.get(identifier).error
    assert error is not None
    assert error.kind == "WorkerLost"
    assert files(tmp_path) == set()


def test_a_living_server_keeps_its_jobs_for_longer_than_a_lease(tmp_path: Path) -> None:
    pair = Pair(tmp_path, lease_seconds=0.5)
    identifier = pair.one.submit(record(), training_task()).record.id
    pair.backends[0].begin()
    time.sleep(1.5)
    running = pair.other.get(identifier)
    assert (running.status, running.attempt) == (JobStatus.RUNNING, 1)


@pytest.mark.parametrize("slow", ["tidy", "check"])
def test_a_living_server_keeps_its_jobs_while_other_work_takes_longer_than_a_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    owner = ClassifierFiles if slow == "tidy" else Maintenance
    stuck, go_on = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        stuck.set()
        go_on.wait(PATIENCE)

    with monkeypatch.context() as patch:
        patch.setattr(owner, slow, wait)
        one = jobs_with(backend := ManualBackend(), tmp_path, lease_seconds=0.5)
        assert stuck.wait(PATIENCE)
    other = jobs_with(ManualBackend(), tmp_path, lease_seconds=0.5)
    identifier = one.submit(record(), training_task()).record.id
    backend.begin()
    time.sleep(1.5)
    running = other.get(identifier)
    go_on.set()
    assert (running.status, running.attempt) == (JobStatus.RUNNING, 1)


def test_a_server_that_was_only_asleep_gives_up_its_jobs_and_goes_on(tmp_path: Path) -> None:
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


def test_a_lease_is_measured_on_the_observers_own_clock_from_the_last_sign_of_life(tmp_path: Path) -> None:
    store = SqlJobStore.open(database(tmp_path))
    moment = 1000.0
    observed, observer = Lease(store.database, 15.0), Lease(store.database, 15.0, clock=lambda: moment)
    observed.acquire()
    observer.acquire()
    assert observer.expire_leases() == 0
    moment += 14.0
    assert observed.renew()
    assert observer.expire_leases() == 0
    moment += 14.0
    assert observer.expire_leases() == 0
    moment += 1.0
    assert observer.expire_leases() == 1
    assert observer.expire_leases() == 0
    assert not observed.renew()
    assert observer.renew()
    store.close()


def test_an_end_that_could_not_be_recorded_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_classifier_is_kept_whose_end_was_recorded_though_the_answer_got_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record(), training_task()).record.id
    succeeded = SqlJobStore.succeeded

    def write_and_break(*arguments: Any) -> None:
        succeeded(*arguments)
        raise StorageFailed("the job table cannot be used: the connection was closed")

    monkeypatch.setattr(SqlJobStore, "succeeded", write_and_break)
    backend.perform()
    assert jobs.get(identifier).status is JobStatus.SUCCEEDED
    assert jobs.read(identifier)


@pytest.mark.parametrize("moment", ["before the table is read", "after the loss is written"])
def test_an_attempt_that_was_lost_does_not_take_the_next_one_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
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


def test_a_job_that_waits_too_long_expires(tmp_path: Path) -> None:
    jobs = jobs_with(ManualBackend(), tmp_path, queue_seconds=0.2)
    identifier = jobs.submit(record(), training_task()).record.id
    eventually(lambda: jobs.get(identifier).status.is_terminal, "it expires")
    assert jobs.get(identifier).error == JobError(
        kind="QueueExpired", detail="it waited longer than 0.2 seconds to be trained"
    )
    eventually(lambda: files(tmp_path) == set(), "its task goes, a moment after its row says so")
    assert jobs.room().queued == 0


def test_the_time_in_the_queue_is_not_measured_by_a_clock_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    moment, today = 5.0, now()
    ages = QueueAges(clock=lambda: moment)
    queued = {"known": today, "found": today - timedelta(seconds=70)}
    monkeypatch.setattr(queue_ages, "now", lambda: today)
    assert ages.update(queued) == {"known": 0.0, "found": 70.0}
    for step in (timedelta(days=400), timedelta(days=-400)):
        monkeypatch.setattr(queue_ages, "now", lambda step=step: today + step)
        moment += 10.0
        seconds = ages.update(queued)
    assert seconds == {"known": 20.0, "found": 90.0}
    assert ages.update({"from the future": today + timedelta(days=1)}) == {"from the future": 0.0}
    ages.remove("from the future")
    assert ages.length == 0


def three_classifiers(state: Path, **limits: object) -> TrainingJobs:
    jobs = jobs_with(ManualBackend(eager=True), state, **limits)
    for index, name in enumerate(("old", "middle", "new")):
        jobs.submit(record(name), training_task(seed=index))
    return jobs


def test_classifiers_that_are_too_old_expire_with_all_that_was_known_of_them(tmp_path: Path) -> None:
    three_classifiers(tmp_path).stop()
    jobs = jobs_with(ManualBackend(), tmp_path, keep_seconds=0.0)
    jobs.submit(record("queued"), training_task(seed=9))
    jobs._maintenance.clean()
    assert [each.id for each in jobs.page(9).records] == ["queued"]
    assert files(tmp_path) == {"queued.safetensors"}
    with pytest.raises(NotFound):
        jobs.events("old")


def test_the_oldest_classifiers_expire_until_the_rest_is_small_enough(tmp_path: Path) -> None:
    jobs = three_classifiers(tmp_path, keep_seconds=None)
    file = jobs.get("old").file
    assert file is not None
    jobs.stop()
    jobs = jobs_with(ManualBackend(), tmp_path, keep_seconds=None, keep_bytes=2 * file.bytes)
    jobs._maintenance.clean()
    assert [each.id for each in jobs.page(9).records] == ["new", "middle"]
    assert files(tmp_path) == {"new.safetensors", "middle.safetensors"}
    jobs._maintenance.clean()
    assert len(jobs.page(9).records) == 2


def test_what_expires_in_great_number_is_removed_a_little_at_a_time_and_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "CLEANED_AT_ONCE", 2)
    jobs = three_classifiers(tmp_path)
    silence(jobs)
    jobs._maintenance._limits = JobLimits(keep_seconds=0.0)
    jobs._maintenance.clean()
    assert [each.id for each in jobs.page(9).records] == ["new"]
    assert jobs._maintenance._cleaning.due <= time.monotonic() + maintenance.SECONDS_BETWEEN_CHECKS
    jobs._maintenance.clean()
    assert files(tmp_path) == set()


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
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


def age(path: Path) -> None:
    """Make a file that nobody has touched for long."""
    path.touch()
    os.utime(path, times=(time.time() - 2 * FORGOTTEN_SECONDS,) * 2)


def test_classifiers_of_another_table_are_left_alone(tmp_path: Path) -> None:
    jobs_with(ManualBackend(), tmp_path).stop()
    age(tmp_path / "classifiers" / "theirs.safetensors")
    (tmp_path / "mine").mkdir()
    store = SqlJobStore.open(database(tmp_path / "mine"))
    jobs = TrainingJobs(store, ClassifierFiles(tmp_path), ManualBackend(), JobLimits())
    jobs.open()
    jobs._maintenance.clean()
    assert {path.stem for path in (tmp_path / "classifiers").iterdir()} == {"theirs"}
    store.close()


@pytest.mark.parametrize("verb", ["cancel", "delete"])
@pytest.mark.parametrize("moment", ["before the file is written", "after the file is written"])
def test_a_job_that_goes_while_its_classifier_is_stored_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, moment: str
) -> None:
    backend = ManualBackend()
    jobs = jobs_with(backend, tmp_path)
    identifier = jobs.submit(record(), training_task()).record.id
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
