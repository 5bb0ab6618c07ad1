"""Predictions over HTTP beside the bare network: answers and pictures per second, and milliseconds of an answer.

    python -m benchmarks.predictions [--quick] [--seconds 8] [--callers 32]

The classifier is a ConvNet of 128 filters for pictures of 28x28 pixels, trained from the labels of fashion-mnist. Three
kinds of requests take turns: one caller with one picture at a time, many callers with one picture each, and four
callers with 32 pictures each. `features` is the same for a classifier of three labels of cifar10-features, whose
encoder sees pictures of 224x224 pixels. The baseline of both is onnxruntime alone, in this process on one thread, in
batches of 1 and 32. /health/live is answered as often as HTTP allows. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.attacks import FORM, form
from benchmarks.connections import get, keep_asking, post
from benchmarks.running_server import PATIENCE, RunningServer, running_server
from recall_server.core.encoders.onnx_session import cpu_session
from recall_server.core.training.device import device_name

LARGE = 32  # pictures of a large request
KINDS = {"network": [f"fashion-mnist:{name}" for name in ("Bag", "Coat", "Dress", "Shirt", "Sandal", "Trouser")]}
KINDS |= {"features": [f"cifar10-features:{name}" for name in ("bird", "deer", "ship")]}


@dataclass(frozen=True)
class Trained:
    """A trained classifier: its id, its ONNX file, and pictures in the size that it takes."""

    identifier: str
    onnx: bytes
    pictures: list[bytes]

    @property
    def path(self) -> str:
        return f"/classifier/{self.identifier}/predict"


def trained(server: RunningServer, labels: Sequence[str]) -> Trained:
    """Train a classifier of these labels, and draw pictures of its size."""
    with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:
        record = client.post("/classifier", json={"labels": labels}).raise_for_status().json()
        while not record["is_terminal"]:
            record = client.get(record["links"]["self"], headers={"Prefer": "wait=30"}).raise_for_status().json()
        made = client.get(record["links"]["download"], params={"format": "onnx"}).raise_for_status().content
    _, channels, height, width = cpu_session(made).get_inputs()[0].shape
    chance = np.random.default_rng(0)
    shape = (64, height, width, *([channels] if channels == 3 else []))
    return Trained(record["id"], made, [png(each) for each in chance.integers(0, 256, shape, dtype=np.uint8)])


def png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def requests(server: RunningServer, made: Trained, pictures: int) -> Iterator[bytes]:
    """Yield requests for ever, each with other pictures."""
    bodies = []
    for start in range(len(made.pictures)):
        chosen = [made.pictures[(start + number) % len(made.pictures)] for number in range(pictures)]
        bodies.append(form([("images", "a.png", data) for data in chosen]))
    return itertools.cycle([post(server.host, server.port, made.path, body, FORM) for body in bodies])


def asked(
    server: RunningServer, sent: Iterator[bytes], callers: int, pictures: int, seconds: float
) -> dict[str, float]:
    """The rate and the latencies of so many callers at once. Raises RuntimeError where an answer is an error."""
    tally = asyncio.run(keep_asking(server.host, server.port, sent, connections=callers, seconds=seconds))
    if set(tally.statuses) != {200}:
        raise RuntimeError(f"answers were {dict(tally.statuses)}")
    return {
        "pictures_per_second": tally.statuses[200] * pictures / seconds,
        "p50_ms": 1000 * tally.quantile(0.5),
        "p99_ms": 1000 * tally.quantile(0.99),
    }


def bare(made: Trained, pictures: int, seconds: float) -> float:
    """Pictures per second of onnxruntime alone, in batches of so many."""
    opened = cpu_session(made.onnx)
    shape = [pictures, *opened.get_inputs()[0].shape[1:]]
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    return rate(lambda: opened.run(None, {"images": images}), pictures, seconds)


def rate(work: Callable[[], object], pictures: int, seconds: float) -> float:
    """Pictures per second of `work` on so many."""
    work()
    began, rounds = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds:
        work()
        rounds += 1
    return rounds * pictures / spent


def measured(server: RunningServer, labels: Sequence[str], callers: int, seconds: float, rounds: int) -> dict[str, Any]:
    """The medians of rounds in which every kind of request and the baselines have their turn."""
    made = trained(server, labels)
    kinds = {"one_caller": (1, 1), "many_callers": (callers, 1), "large_requests": (4, LARGE)}
    sent = {name: requests(server, made, pictures) for name, (_, pictures) in kinds.items()}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*kinds, "bare")}
    for _ in range(rounds):
        for name, (at_once, pictures) in kinds.items():
            found[name].append(asked(server, sent[name], at_once, pictures, seconds))
        found["bare"].append({f"batches_of_{size}": bare(made, size, seconds / 4) for size in (1, LARGE)})
    return {
        name: {key: round(statistics.median(each[key] for each in values), 1) for key in values[0]}
        for name, values in found.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round of the network")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each kind of request in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args(arguments)
    seconds, rounds = (0.5, 1) if options.quick else (options.seconds, options.rounds)
    kinds = ["network"] if options.quick else options.kinds.split(",")
    torch.set_num_threads(1)
    with running_server("--device=cpu", "--workers=1", "--worker-threads=1") as server:
        live = itertools.repeat(get(server.host, server.port, "/health/live"))
        figures = {
            "answers_of_health": round(asked(server, live, options.callers, 1, seconds)["pictures_per_second"]),
            **{kind: measured(server, KINDS[kind], options.callers, seconds, rounds) for kind in kinds},
            "callers": options.callers,
            "device": device_name(torch.device("cpu")),
        }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
