"""Actors of a Ray cluster: deaths of an actor, a node and the head, and clusters that cannot be used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.ray_cluster import OBJECT_STORE_BYTES, LocalCluster
from recall_server.jobs.rows.records import JobStatus
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.jobs.workers import supervisor
from recall_server.jobs.workers.ray.backend import RayBackend, RayCluster
from tests.recall_server.job_examples import jobs_with, record, training_task
from tests.recall_server.watched_jobs import finished, is_alive
from tests.suite.ray_cluster import claiming
from tests.suite.waiting import PATIENCE, eventually

pytestmark = pytest.mark.process

JOBS, STEPS = 50, 100
TOKEN = "a-token-that-only-this-test-knows-0123456789"


def count(jobs: TrainingJobs, status: JobStatus) -> int:
    return sum(jobs.get(f"{index}").status is status for index in range(JOBS))


def test_every_job_ends_once_while_an_actor_a_node_and_the_head_die(ray_cluster: LocalCluster, tmp_path: Path) -> None:
    jobs = jobs_with(RayBackend(RayCluster(ray_cluster.address), workers=2), tmp_path, attempts=10, queue=JOBS)
    for index in range(JOBS):
        jobs.submit(record(f"{index}"), training_task(seed=index, steps=STEPS))

    def done(least: int) -> None:
        eventually(lambda: count(jobs, JobStatus.SUCCEEDED) >= least, f"{least} have ended", patience=5 * PATIENCE)

    done(5)
    os.kill(ray_cluster.actors()[0], signal.SIGKILL)
    done(15)
    ray_cluster.remove(max(ray_cluster.nodes, key=lambda node: len(node.actors())))
    done(25)
    ray_cluster.kill()
    assert jobs.get(f"{JOBS - 1}").status is JobStatus.QUEUED
    ray_cluster.start()
    done(JOBS)
    for index in range(JOBS):
        ends = [event for event in jobs.events(f"{index}") if event.status.is_terminal]
        assert [end.status for end in ends] == [JobStatus.SUCCEEDED]
        assert jobs.read(f"{index}") == training_task(seed=index, steps=STEPS).train(device="cpu")
    jobs.stop()
    eventually(lambda: not ray_cluster.actors(), "the actors are gone")


def test_a_killed_server_leaves_no_actor(ray_cluster: LocalCluster, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.recall_server.job_server", str(tmp_path), "1.0", ray_cluster.address]
    server = subprocess.Popen(command)
    try:
        eventually(lambda: bool(ray_cluster.actors()), "there is an actor", patience=3 * PATIENCE)
        actors = ray_cluster.actors()
    finally:
        server.kill()
        server.wait(PATIENCE)
    eventually(lambda: not any(map(is_alive, actors)), "the actor is gone")


@pytest.fixture
def fault_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[RayCluster], str]]:
    """Why no worker can be started with this cluster."""
    monkeypatch.setattr(supervisor, "FAILED_STARTS", 1)
    started: list[TrainingJobs] = []

    def fault_of(cluster: RayCluster) -> str:
        jobs = jobs_with(RayBackend(cluster), tmp_path)
        started.append(jobs)
        eventually(lambda: bool(jobs.workers[0].fault), "the fault is known", patience=3 * PATIENCE)
        return jobs.workers[0].fault or ""

    yield fault_of
    for jobs in started:
        jobs.stop()


FaultOf = Callable[[RayCluster], str]


def test_an_address_where_nothing_answers_is_named(fault_of: FaultOf) -> None:
    assert fault_of(RayCluster("127.0.0.1:1")) == (
        "nothing answers at 127.0.0.1:1 (Connection refused); see --ray-address"
    )


def test_an_address_where_something_else_answers_is_named(fault_of: FaultOf) -> None:
    with subprocess.Popen([sys.executable, "-um", "http.server", "0"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        port = other.stdout.readline().split()[5]
        said = fault_of(RayCluster(f"127.0.0.1:{port}", seconds=3))
        other.kill()
    assert said == f"nothing at 127.0.0.1:{port} answers as Ray does; see --ray-address (waited 3 seconds)"


def test_a_worker_that_no_node_has_room_for_is_named(ray_cluster: LocalCluster, fault_of: FaultOf) -> None:
    said = fault_of(RayCluster(ray_cluster.address, cpus=64, gpus=1, seconds=10))
    assert "no node of the Ray cluster has 64 CPUs and 1 GPUs free, which a worker takes" in said
    assert "2 CPUs and 0 GPUs" in said
    assert said.endswith("lower --ray-workers, --ray-cpus or --ray-gpus (waited 10 seconds)")


def test_a_cluster_of_another_version_is_named(ray_cluster: LocalCluster, fault_of: FaultOf) -> None:
    with claiming(ray_cluster, ray="2.51.0", python="3.14.1"):
        said = fault_of(RayCluster(ray_cluster.address))
    assert said.startswith(
        f"the cluster at {ray_cluster.address} has Ray 2.51.0 and Python 3.14.1, and this machine Ray "
    )
    assert said.endswith(": install the same versions")


def test_a_node_without_the_packages_is_named(ray_cluster: LocalCluster, fault_of: FaultOf, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow" / "safetensors"  # the packages of this server are found first
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'safetensors'\")\n")
    node = ray_cluster.add(cpus=3, PYTHONPATH=str(shadow.parent))
    said = fault_of(RayCluster(ray_cluster.address, cpus=3))
    ray_cluster.remove(node)
    assert said == (
        "a node cannot import memory-recall (ModuleNotFoundError: No module named 'safetensors'): install the same "
        "packages on every node"
    )


def test_a_task_larger_than_the_object_stores_is_trained(ray_cluster: LocalCluster, tmp_path: Path) -> None:
    """Ray puts on a disk what does not fit."""
    large = replace(training_task(steps=1), images=torch.zeros(3, 120_000, 1, 8, 8))
    assert len(large.to_bytes()) > OBJECT_STORE_BYTES
    jobs = jobs_with(RayBackend(RayCluster(ray_cluster.address)), tmp_path)
    done = finished(jobs, jobs.submit(record("large"), large).record.id)
    assert done.status is JobStatus.SUCCEEDED, done.error
    jobs.stop()


def test_a_cluster_that_wants_another_token_is_named(fault_of: FaultOf) -> None:
    secured = LocalCluster(nodes=0, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    try:
        said = fault_of(RayCluster(secured.address))
    finally:
        secured.close()
    assert said == (
        f"{secured.address} does not let this machine in: it is no Ray cluster (see --ray-address), or one that wants "
        "another token (set RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN)"
    )
