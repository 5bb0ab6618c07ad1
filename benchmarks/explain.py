"""Explaining predictions: milliseconds over HTTP, and the difference to heads that were trained without each item.

    python -m benchmarks.explain [--quick] [--requests 40]

A server explains a random picture for classifiers of cifar10-features and cifar100-features, whose memories hold one
item for each class; `first_ms` is the first request, in which the heads are trained. The baseline is a prediction of
the same picture. `many_items` is without a server: a head of ten classes and ten items each, trained in 30 steps of
momentum, from the request to the influences without the encoder. `difference` is the largest of log-odds to trainings
of each head by itself, in float64, by autograd. The last line is JSON.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.command import command_parser, parse, print_figures
from benchmarks.predictions import Trained, trained
from benchmarks.running_server import ARTIFACTS, PATIENCE, RunningServer, running_server
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.networks.spec import NetworkSpec
from recall_server.core.training.heads.leave_one_out import LeaveOneOut, leave_one_out, log_odds
from recall_server.core.training.retraining import Retraining, learning_rate

MEMORIES = ("cifar10-features", "cifar100-features")
LONGER = Retraining(
    network=NetworkSpec(architecture="linear"), steps=30, learning_rate=0.1, momentum=0.9, rows_per_class=10
)


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The median time of `work`."""
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(spent), 1)


def served(server: RunningServer, memory: str, classes: int, requests: int) -> dict[str, float]:
    """Milliseconds of explanations and of predictions by a classifier of this memory's first classes."""
    labels = MemoryBundle.load(ARTIFACTS / "bundles" / f"{memory}.safetensors").labels[:classes]
    made: Trained = trained(server, [f"{memory}:{label}" for label in labels])
    with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:

        def ask(verb: str) -> None:
            files = [("images", ("a.png", made.pictures[0], "image/png"))]
            client.post(f"/classifier/{made.identifier}/{verb}", files=files).raise_for_status()

        ask("predict")
        return {
            "first_ms": milliseconds(lambda: ask("explain"), 1),
            "explain_ms": milliseconds(lambda: ask("explain"), requests),
            "predict_ms": milliseconds(lambda: ask("predict"), requests),
        }


def in_process(requests: int) -> dict[str, float]:
    """Milliseconds of the trainings and of an explanation where every class has several items."""
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(10, 10, 1280, 1, 1, generator=generator) / 1280**0.5
    targets, features = torch.eye(10).unsqueeze(1), torch.randn(1280, generator=generator)
    found = leave_one_out(items, targets, LONGER, 0)
    return {
        "trainings_ms": milliseconds(lambda: leave_one_out(items, targets, LONGER, 0), 3),
        "explain_ms": milliseconds(lambda: found.logits(features), requests),
        "difference": _difference(found, items.flatten(0, 1).flatten(1), features),
    }


def _difference(found: LeaveOneOut, items: Tensor, features: Tensor) -> float:
    """The largest difference of the log-odds of the first class, for ten of the items."""
    _, without = found.logits(features)
    with_one = torch.cat([features.double(), torch.ones(1, dtype=torch.double)])
    return max(
        abs(float(log_odds(without[at], 0) - log_odds(_retrained(items, at) @ with_one, 0)))
        for at in range(0, len(items), 10)
    )


def _retrained(items: Tensor, left_out: int) -> Tensor:
    """The weights [k, D + 1] of a head that was trained without one item; the last column is the bias."""
    kept = torch.arange(len(items)) != left_out
    labels = torch.arange(10).repeat_interleave(10)[kept]
    rows = torch.cat([items[kept].double(), torch.ones(len(labels), 1, dtype=torch.double)], dim=1)
    weights = torch.zeros(10, rows.shape[1], dtype=torch.double, requires_grad=True)
    velocity = torch.zeros_like(weights)
    for done in range(LONGER.steps):
        (gradient,) = torch.autograd.grad(cross_entropy(rows @ weights.T, labels), weights)
        with torch.no_grad():
            velocity.mul_(LONGER.momentum).add_(gradient)
            weights.sub_(learning_rate(LONGER, done) * velocity)
    return weights.detach()


def main(arguments: Sequence[str] | None = None) -> None:
    parser: argparse.ArgumentParser = command_parser(__doc__, "quick")
    parser.add_argument("--requests", type=int, default=40)
    options = parse(parser, arguments)
    requests = 3 if options.quick else options.requests
    figures: dict[str, Any] = {"many_items": in_process(requests)}
    with running_server("--device=cpu", "--workers=1", "--worker-threads=1") as server:
        for memory, classes in zip(MEMORIES, (10, 10 if options.quick else 100), strict=True):
            figures[memory] = {"classes": classes} | served(server, memory, classes, requests)
            sys.stdout.write(f"{memory}: {figures[memory]}\n")
    print_figures(figures)


if __name__ == "__main__":
    main()
