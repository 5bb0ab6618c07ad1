"""500 simultaneous job requests on a queue of 16: exactly the surplus is refused, and the server stays responsive.

    python -m benchmarks.burst [--quick] [--requests 500] [--queue 16]

A long training keeps the only worker busy, so that the queue cannot empty during the burst, and is then cancelled. A
separate process requests /health/live from before the burst until every accepted training has ended. --quick: 100
requests on a queue of 4. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection as Pipe

import httpx2

from benchmarks.command import command_parser
from benchmarks.connections import Connection, Tally, post
from benchmarks.running_server import RunningServer, running_server

BUSY = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
LONG = {"labels": [f"fashion-mnist:{label}" for label in BUSY]}
SHORT = ["digits:3", "digits:8"]
SECONDS_BETWEEN_PROBES = 0.005
PATIENCE = 600.0


def probe(host: str, port: int, pipe: Pipe) -> None:
    """Request /health/live until told to stop, and send (time, seconds) of every answer."""
    connection = http.client.HTTPConnection(host, port)
    times: list[tuple[float, float]] = []
    while not pipe.poll():
        began = time.perf_counter()
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        times.append((began, time.perf_counter() - began))
        time.sleep(SECONDS_BETWEEN_PROBES)
    pipe.send(times)


async def burst(server: RunningServer, requests: int) -> list[tuple[int, bytes, bytes]]:
    """Send all requests at once, each on its own connection, which is opened before the first request."""
    connections = [Connection(server.host, server.port) for _ in range(requests)]
    for connection in connections:
        await connection.open()
    bodies = [json.dumps({"labels": SHORT, "seed": seed}).encode() for seed in range(requests)]
    sent = [post(server.host, server.port, "/classifier", body) for body in bodies]
    answers = await asyncio.gather(
        *(connection.ask(request) for connection, request in zip(connections, sent, strict=True))
    )
    for connection in connections:
        connection.close()
    return answers


def occupy(client: httpx2.Client) -> str:
    """Start the long training, and return its address when a worker has started it."""
    address: str = client.post("/classifier", json=LONG).raise_for_status().headers["Location"]
    while client.get(address).json()["status"] == "queued":
        time.sleep(0.05)
    return address


def ends(client: httpx2.Client, addresses: list[str]) -> Counter[str]:
    """The final statuses of the trainings at these addresses."""
    found: Counter[str] = Counter()
    limit = time.monotonic() + PATIENCE
    for address in addresses:
        while not (record := client.get(address, headers={"Prefer": "wait=30"}).json())["is_terminal"]:
            if time.monotonic() > limit:
                break
        found[record["status"]] += 1
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--requests", type=int, default=500, help="at once")
    parser.add_argument("--queue", type=int, default=16, help="trainings that may wait")
    options = parser.parse_args(arguments)
    requests, queue = (100, 4) if options.quick else (options.requests, options.queue)
    with running_server(f"--queue-limit={queue}", "--workers=1", "--worker-threads=1") as server:
        client = httpx2.Client(base_url=server.url, timeout=90)
        occupied = occupy(client)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        prober = context.Process(target=probe, args=(server.host, server.port, theirs), daemon=True)
        prober.start()
        time.sleep(2)
        began = time.perf_counter()
        answers = asyncio.run(burst(server, requests))
        ended = time.perf_counter()
        statuses = Counter(status for status, _, _ in answers)
        accepted = [f"/classifier/{json.loads(body)['id']}" for status, _, body in answers if status == 202]
        client.post(f"{occupied}/cancel").raise_for_status()
        outcome = ends(client, accepted)
        ours.send("stop")
        health: list[tuple[float, float]] = ours.recv()
        prober.join()
    refused = [head for status, head, _ in answers if status == 429]
    throughout = Tally(seconds=[seconds for _, seconds in health])
    meanwhile = Tally(seconds=[seconds for when, seconds in health if began - 1 <= when <= ended])
    figures = {
        "requests": requests,
        "queue": queue,
        "accepted": len(accepted),
        "refused": statuses[429],
        "refused_with_retry_after": sum(b"\r\nretry-after: " in head.lower() for head in refused),
        "other_statuses": {str(status): count for status, count in statuses.items() if status not in (202, 429)},
        "exactly_the_surplus": (len(accepted), statuses[429]) == (queue, requests - queue),
        "ends": dict(outcome),
        "burst_seconds": round(ended - began, 3),
        "health_p99_ms": round(1000 * throughout.quantile(0.99), 1),
        "health_p50_ms": round(1000 * throughout.quantile(0.5), 1),
        "health_max_ms_around_burst": round(1000 * meanwhile.quantile(1.0), 1),
        "health_probes": len(health),
    }
    sys.stdout.write(f"{len(accepted)} accepted, {statuses[429]} refused, {dict(outcome)}\n{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
