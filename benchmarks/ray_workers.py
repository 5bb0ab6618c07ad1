"""Trainings on a Ray cluster beside trainings by local processes: what one takes more, and what a second actor adds.

    python -m benchmarks.ray_workers [--quick] [--pairs 40] [--rounds 4] [--jobs 40] [--labels digits:0,digits:1]

The cluster is a head and one node of this machine. All servers are warm, and each worker has one thread. Overhead: the
same training is asked of both servers in turn; `more_ms` is the median of the paired differences from request to
result, with its exact 95 % interval. Throughput: servers with one and with two workers train the same jobs in turn, and
no others run; `times` is how many times as many classifiers a minute two workers train. `bare` is the same of
processes that train without a server, and shows what a second processor of the machine has to give. Classifiers know
all ten digits unless --labels names others of one bundle. --pairs 0 leaves the overhead out. --quick: a few short ones.
The last line is JSON.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import httpx2
import torch
from scipy.stats import quantile_test

from benchmarks.command import command_parser, print_figures
from benchmarks.ray_cluster import ENVIRONMENT, LocalCluster
from benchmarks.running_server import ARTIFACTS, running_server
from benchmarks.waiting import PATIENCE, until
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.fresh_classifier import FreshClassifier

LABELS = tuple(f"digits:{digit}" for digit in range(10))
KINDS, WORKERS = ("local", "ray"), (1, 2)

Workers = tuple[str, int]  # kind and number
Servers = dict[Workers, httpx2.Client]


@contextlib.contextmanager
def warm_servers(cluster: LocalCluster, labels: Sequence[str], *wanted: Workers) -> Iterator[Servers]:
    """Clients of warm servers, which have trained twice: the first training of a server reads the bundles."""
    with contextlib.ExitStack() as stack:
        servers: Servers = {}
        for kind, number in wanted:
            ray = ["--workers=ray", f"--ray-address={cluster.address}", f"--ray-workers={number}"]
            flags = ray if kind == "ray" else [f"--workers={number}"]
            options = [*flags, "--worker-threads=1", "--device=cpu", "--queue-limit=1000"]
            server = stack.enter_context(running_server(*options, environment=ENVIRONMENT))
            servers[kind, number] = stack.enter_context(httpx2.Client(base_url=server.url, timeout=PATIENCE))
        until(lambda: all(map(is_warm, servers.values())), "all workers are warm")
        for client in servers.values():
            seconds_for(client, labels, [10**6, 10**6 + 1])
        yield servers


def is_warm(client: httpx2.Client) -> bool:
    return all(worker["state"] == "ready" for worker in client.get("/info").json()["workers"])


def submit(client: httpx2.Client, labels: Sequence[str], seed: int) -> str:
    """The address of a training that the server has accepted."""
    answer = client.post("/classifier", json={"labels": labels, "seed": seed})
    return str(answer.raise_for_status().headers["Location"])


def finish(client: httpx2.Client, job: str) -> None:
    """Return when it has ended. Raises RuntimeError where it did not succeed."""
    while not (record := client.get(job, headers={"Prefer": "wait=60"}).json())["is_terminal"]:
        pass
    if record["status"] != "succeeded":
        raise RuntimeError(f"a training ended with {record['error']}")


def seconds_for(client: httpx2.Client, labels: Sequence[str], seeds: Sequence[int]) -> float:
    """Seconds from the first request to the last result."""
    began = time.perf_counter()
    for job in [submit(client, labels, seed) for seed in seeds]:
        finish(client, job)
    return time.perf_counter() - began


def overhead(servers: Servers, labels: Sequence[str], pairs: int) -> dict[str, float | list[float]]:
    """Milliseconds of the same training by both kinds, and of their difference."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for seed in range(pairs):
        for kind in KINDS if seed % 2 else KINDS[::-1]:
            found[kind].append(1000 * seconds_for(servers[kind, 1], labels, [seed]))
    more = [ray - local for local, ray in zip(found["local"], found["ray"], strict=True)]
    interval = quantile_test(more, p=0.5).confidence_interval(0.95)
    return {
        **{f"{kind}_ms": round(statistics.median(found[kind]), 1) for kind in KINDS},
        "more_ms": round(statistics.median(more), 1),
        "more_ms_interval": [round(float(interval.low), 1), round(float(interval.high), 1)],
    }


def throughput(servers: Servers, labels: Sequence[str], rounds: int, jobs: int) -> dict[str, float | list[float]]:
    """Classifiers a minute by one worker and by two: medians of the rounds, and the ratio of each."""
    found: dict[int, list[float]] = {number: [] for _, number in servers}
    for index in range(rounds):
        seeds = range((index + 1) * 1000, (index + 1) * 1000 + jobs)
        for (_, number), client in list(servers.items())[:: 1 if index % 2 else -1]:
            found[number].append(60 * jobs / seconds_for(client, labels, seeds))
    return _compared(found)


def _compared(found: dict[int, list[float]]) -> dict[str, float | list[float]]:
    times = [two / one for one, two in zip(found[1], found[2], strict=True)]
    return {
        "one_a_minute": round(statistics.median(found[1]), 1),
        "two_a_minute": round(statistics.median(found[2]), 1),
        "times": round(statistics.median(times), 2),
        "times_range": [round(min(times), 2), round(max(times), 2)],
    }


def bare(labels: Sequence[str], rounds: int, jobs: int) -> dict[str, float | list[float]]:
    """As `throughput`, of processes that train one classifier after the other, each with one thread."""
    found: dict[int, list[float]] = {number: [] for number in WORKERS}
    with ProcessPoolExecutor(max(WORKERS), mp_context=get_context("spawn")) as pool:
        list(pool.map(train_bare, [labels] * 4, [2] * 4))  # both have started, and have read the bundle
        for index in range(rounds):
            for number in WORKERS[:: 1 if index % 2 else -1]:
                began = time.perf_counter()
                list(pool.map(train_bare, [labels] * number, [jobs // number] * number))
                found[number].append(60 * jobs / (time.perf_counter() - began))
    return _compared(found)


def train_bare(labels: Sequence[str], jobs: int) -> None:
    """Train so many classifiers in this process."""
    torch.set_num_threads(1)
    names, known = zip(*(label.split(":") for label in labels), strict=True)
    bundle = _bundle(names[0])
    queries = bundle.label_queries(known)
    shape = bundle.manifest.image.shape
    for seed in range(jobs):
        classifier = FreshClassifier(known, shape, bundle.preprocessing, bundle.manifest.retraining, seed=seed)
        classifier.fit(*bundle.recall_lazily(queries))


@cache
def _bundle(name: str) -> MemoryBundle:
    return MemoryBundle.load(ARTIFACTS / "bundles" / f"{name}.safetensors")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=40, help="of each server in each round")
    parser.add_argument("--labels", type=lambda text: text.split(","), default=LABELS)
    options = parser.parse_args(arguments)
    labels: Sequence[str] = options.labels
    pairs, rounds, jobs = (6, 1, 4) if options.quick else (options.pairs, options.rounds, options.jobs)
    figures: dict[str, Any] = {"rounds": rounds, "jobs": jobs, "throughput": {"bare": bare(labels, rounds, jobs)}}
    print("bare", figures["throughput"]["bare"], flush=True)
    cluster = LocalCluster(nodes=0)
    with contextlib.closing(cluster):
        cluster.add(cpus=sum(WORKERS))
        if pairs:
            with warm_servers(cluster, labels, *((kind, 1) for kind in KINDS)) as servers:
                figures |= {"pairs": pairs, "overhead": overhead(servers, labels, pairs)}
                print(figures["overhead"], flush=True)
        for kind in KINDS:
            with warm_servers(cluster, labels, *((kind, number) for number in WORKERS)) as servers:
                figures["throughput"][kind] = throughput(servers, labels, rounds, jobs)
                print(kind, figures["throughput"][kind], flush=True)
    print_figures(figures)


if __name__ == "__main__":
    main()
