"""Latency against offered load: predictions, recalls and trainings arrive at random, whether or not others are done.

    python -m benchmarks.offered_load [--quick] [--workers ray] [--rates 25,50,100,200,400] [--seconds 20]

Arrivals are a Poisson process at each rate in turn, and latency counts from the moment at which a request was to arrive
(open loop), so that waiting of the load generator counts as well. Of 100 requests, 89 predict one picture of 28 x 28
pixels, 10 recall (every tenth of these something new), and one trains a classifier of two digits and waits for it. A
rate is sustained if everything is answered without an error and 99 % of the predictions within a second; the first one
that is not is the last one that is tried. The generator shares the processors. With `--workers ray`, two actors train
on two nodes of this machine. --quick: two seconds of two rates. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.attacks import FORM, form
from benchmarks.command import command_parser, print_figures
from benchmarks.connections import Connection, Tally, post
from benchmarks.load import recalls
from benchmarks.predictions import KINDS, trained
from benchmarks.ray_cluster import ENVIRONMENT, LocalCluster
from benchmarks.running_server import RunningServer, running_server

MIX = {"predict": 89, "recall": 10, "train": 1}
SECONDS_TO_ANSWER = 60.0  # after the last arrival
LONGEST = 1.0  # seconds, of 99 % of the predictions

Streams = dict[str, Iterator[bytes]]


@contextlib.contextmanager
def served(workers: str) -> Iterator[RunningServer]:
    """A warm server that trains in one process, or on two nodes of a Ray cluster."""
    with contextlib.ExitStack() as stack:
        flags = ["--device=cpu", "--worker-threads=1", "--workers=1"]
        if workers == "ray":
            cluster = LocalCluster(nodes=0)
            stack.callback(cluster.close)
            for _ in range(2):
                cluster.add(cpus=1)
            flags[-1:] = ["--workers=ray", f"--ray-address={cluster.address}", "--ray-workers=2"]
        yield stack.enter_context(running_server(*flags, environment=ENVIRONMENT))


def streams(server: RunningServer) -> Streams:
    """Requests of each kind, for ever."""
    made = trained(server, KINDS["network"])
    bodies = [form([("images", "a.png", data)]) for data in made.pictures]
    predicts = [post(server.host, server.port, made.path, body, FORM) for body in bodies]
    return {
        "predict": itertools.cycle(predicts),
        "recall": recalls(server),
        "train": (training(server, seed) for seed in itertools.count()),
    }


def training(server: RunningServer, seed: int) -> bytes:
    """A request for a classifier that is answered when it is trained."""
    body = json.dumps({"labels": ["digits:3", "digits:8"], "seed": seed}).encode()
    asked = post(server.host, server.port, "/classifier", body)
    return asked.replace(b"\r\n", b"\r\nPrefer: wait=60\r\n", 1)


class Offered(NamedTuple):
    """What became of the requests by kind, status 0 for no answer, and how many were not answered in time."""

    tallies: Mapping[str, Tally]
    late: int


async def offer(server: RunningServer, sent: Streams, rate: float, seconds: float, seed: int) -> Offered:
    """Let requests arrive at this rate for so many seconds."""
    chance, tallies = random.Random(seed), defaultdict[str, Tally](Tally)
    idle: list[Connection] = []
    began = time.perf_counter()

    async def ask(kind: str, scheduled: float) -> None:
        connection = idle.pop() if idle else Connection(server.host, server.port)
        status = 0
        try:
            status, _, _ = await connection.ask(next(sent[kind]))
            idle.append(connection)
        except (OSError, asyncio.IncompleteReadError):
            connection.close()
        tallies[kind].statuses[status] += 1
        tallies[kind].seconds.append(time.perf_counter() - scheduled)

    asked, due = [], began
    while (due := due + chance.expovariate(rate)) < began + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        (kind,) = chance.choices(list(MIX), list(MIX.values()))
        asked.append(asyncio.create_task(ask(kind, due)))
    _, late = await asyncio.wait(asked, timeout=SECONDS_TO_ANSWER)
    for task in late:
        task.cancel()
    for connection in idle:
        connection.close()
    return Offered(tallies, len(late))


def figures_of(offered: Offered, rate: float) -> dict[str, Any]:
    """Percentiles of each kind in milliseconds, and whether the rate was sustained."""
    tallies, late = offered
    statuses = sum((tally.statuses for tally in tallies.values()), Counter[int]())
    errors = {str(status): count for status, count in statuses.items() if not 200 <= status < 300}
    latencies = {
        kind: {f"p{share}_ms": round(1000 * tallies[kind].quantile(share / 100), 1) for share in (50, 95, 99)}
        for kind in MIX
        if tallies[kind].seconds
    }
    return {
        "rate": rate,
        "answered": statuses.total(),
        "late": late,
        "errors": errors,
        **latencies,
        "sustained": not late and not errors and tallies["predict"].quantile(0.99) < LONGEST,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "seed", "quick")
    parser.add_argument("--workers", choices=("1", "ray"), default="1")
    parser.add_argument("--rates", default="25,50,100,200,400", help="requests a second, from the lowest")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate")
    options = parser.parse_args(arguments)
    rates, seconds = ("10,20", 2.0) if options.quick else (options.rates, options.seconds)
    steps: list[dict[str, Any]] = []
    with served(options.workers) as server:
        sent = streams(server)
        asyncio.run(offer(server, sent, 10, 2.0, options.seed))  # warms everything
        for rate in map(float, rates.split(",")):
            steps.append(figures_of(asyncio.run(offer(server, sent, rate, seconds, options.seed)), rate))
            print(steps[-1], flush=True)
            if not steps[-1]["sustained"]:
                break
    sustained = [step for step in steps if step["sustained"]]
    best = sustained[-1] if sustained else None
    print_figures({"workers": options.workers, "sustained": best, "steps": steps, "seconds": seconds})


if __name__ == "__main__":
    main()
