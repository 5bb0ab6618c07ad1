"""Processor seconds of a training, a prediction and a recall, from which docs/sizing.md computes the number of cores.

    python -m benchmarks.sizing [--quick] [--trainings 5] [--requests 200]

A real server trains with one thread and answers one caller. Counted is the processor time of all its processes, as
Linux tells it, over the answers. So other programs on the machine matter little, and waiting does not matter at all.
The last line is JSON; its `a_second` are the numbers for one core: 1 / seconds.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2

from benchmarks.attacks import FORM, form
from benchmarks.command import command_parser, print_figures
from benchmarks.predictions import KINDS, trained
from benchmarks.process_tree import bytes_of, descendants
from benchmarks.ray_workers import seconds_for
from benchmarks.running_server import RunningServer, running_server
from benchmarks.waiting import PATIENCE

TRAININGS = {
    "digits": [f"digits:{digit}" for digit in range(10)],
    "fashion-mnist": [f"fashion-mnist:{name}" for name in ("Bag", "Coat", "Dress")],
    "cifar10-features": [f"cifar10-features:{name}" for name in ("bird", "deer", "ship")],
}
TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(server: RunningServer) -> float:
    """What all processes of the server have used so far."""
    ticks = 0
    for process in (server.process.pid, *descendants(server.process.pid)):
        fields = bytes_of(Path(f"/proc/{process}/stat")).rpartition(b")")[2].split()
        ticks += sum(map(int, fields[11:13]))  # in user and in system mode
    return ticks / TICKS


def seconds_each(server: RunningServer, work: Callable[[], object], times: int, parts: int = 1) -> float:
    """Processor seconds of one of `parts` parts of the work, which is done once before."""
    work()
    began = processor_seconds(server)
    for _ in range(times):
        work()
    return (processor_seconds(server) - began) / times / parts


def predictor(client: httpx2.Client, server: RunningServer, kind: str, pictures: int) -> Callable[[], object]:
    """A request that predicts so many pictures."""
    made = trained(server, KINDS[kind])
    chosen = list(itertools.islice(itertools.cycle(made.pictures), pictures))
    body = form([("images", "a.png", data) for data in chosen])
    return lambda: client.post(made.path, content=body, headers={"Content-Type": FORM}).raise_for_status()


def measured(server: RunningServer, client: httpx2.Client, trainings: int, requests: int) -> dict[str, float]:
    """Processor seconds by what was done."""
    seeds = itertools.count()
    found = {
        f"training {name}": seconds_each(server, lambda: seconds_for(client, labels, [next(seeds)]), trainings)  # noqa: B023
        for name, labels in TRAININGS.items()
    }
    for kind, pictures in (("network", 1), ("network", 32), ("features", 1), ("features", 32)):
        work = predictor(client, server, kind, pictures)
        times = max(2, requests // (pictures if kind == "network" else 10 * pictures))
        found[f"picture {kind}, {pictures} a request"] = seconds_each(server, work, times, pictures)
    recall = "/recall?labels=fashion-mnist:Bag&per_label=3&format=png"
    found["recall, cached"] = seconds_each(server, lambda: client.get(recall).raise_for_status(), requests)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--trainings", type=int, default=5, help="of each kind")
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args(arguments)
    trainings, requests = (1, 8) if options.quick else (options.trainings, options.requests)
    with (
        running_server("--device=cpu", "--workers=1", "--worker-threads=1") as server,
        httpx2.Client(base_url=server.url, timeout=PATIENCE) as client,
    ):
        seconds = measured(server, client, trainings, requests)
    each = {
        name: {"seconds": round(found, 5), "a_second": float(f"{1 / found:.3g}")} for name, found in seconds.items()
    }
    print_figures({"of_one_core": each})


if __name__ == "__main__":
    main()
