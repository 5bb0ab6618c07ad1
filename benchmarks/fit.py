"""Seconds and accuracy of this project's fit and of the paper's evaluation protocol, on the same bundle and network.

    python -m benchmarks.fit [--bundle PATH] [--data FOLDER] [--runs 3] [--device cpu] [--threads 2] [--quick]

Ours is `FreshClassifier` with the bundle's schedule. The paper's protocol (appendix A.1) is 300 epochs over all
recalled images in batches of 640 with SGD, a constant rate of 0.01 and momentum 0.9; it runs on torch's modules and
optimiser. Both start from the same parameters, take turns, and are scored on the data set's test pictures. --quick uses
the digits bundle by default, one run and at most 1,000 test pictures, and stops the paper's protocol after 15 seconds:
its time is then extrapolated to 300 epochs, and its accuracy is unknown. The last line is JSON.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.command import command_parser, parse, print_figures
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.networks import ConvNet, Parameters, build_network
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import Split, load_dataset
from trainer.evaluation.evaluate import PAPER_BATCH, PAPER_EPOCHS, PAPER_RATE, score

BUNDLES = Path(__file__).resolve().parent.parent / "artifacts" / "bundles"
PAPER_MOMENTUM = 0.9
QUICK_SECONDS, QUICK_PICTURES = 15.0, 1000


@dataclass(frozen=True)
class Problem:
    """Recalled images [q, r, C, H, W] in model space, one query per label, and test pictures."""

    bundle: MemoryBundle
    images: Tensor
    test: Split
    device: torch.device

    @property
    def targets(self) -> Tensor:
        return self.bundle.memory.targets.among(self.bundle.label_queries(self.bundle.labels))


class Outcome(NamedTuple):
    """One run of one side after `epochs` over all recalled images; `seconds` are for all planned epochs."""

    seconds: float
    accuracy: float
    epochs: float
    complete: bool = True


def ours(problem: Problem, seed: int, retraining: Retraining) -> Outcome:
    """Train with this project's `FreshClassifier`."""
    manifest = problem.bundle.manifest
    classifier = FreshClassifier(
        manifest.labels,
        manifest.image.shape,
        problem.bundle.preprocessing,
        retraining,
        seed=seed,
        device=problem.device,
    )
    started = _now(problem.device)
    classifier.fit(problem.images, problem.targets)
    seconds = _now(problem.device) - started
    rows = problem.images.shape[1]
    epochs = retraining.steps * min(retraining.rows_per_class, rows) / rows
    return Outcome(seconds, score(classifier, problem.test), epochs)


def paper_protocol(problem: Problem, seed: int, longest: float) -> Outcome:
    """Train by the authors' protocol for 300 epochs, or for as many as fit in `longest` seconds."""
    manifest = problem.bundle.manifest
    generator = torch.Generator().manual_seed(seed)
    shape, classes = manifest.image.shape, len(manifest.labels)
    network = _convnet(problem.bundle, classes)
    module = stock_module(network, network.initialise(generator)).to(problem.device)
    images = problem.images.reshape(-1, *shape).to(problem.device)
    targets = torch.arange(classes, device=problem.device).repeat_interleave(problem.images.shape[1])
    optimiser = torch.optim.SGD(module.parameters(), lr=PAPER_RATE, momentum=PAPER_MOMENTUM)
    epochs, started = 0, _now(problem.device)
    while epochs == 0 or (epochs < PAPER_EPOCHS and _now(problem.device) - started < longest):
        order = torch.randperm(len(images), generator=generator).to(problem.device)
        for index in torch.split(order, PAPER_BATCH):
            optimiser.zero_grad()
            loss: Tensor = nn.functional.cross_entropy(module(images[index]), targets[index])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        epochs += 1
    seconds = (_now(problem.device) - started) * PAPER_EPOCHS / epochs
    return Outcome(seconds, _module_score(module, problem), epochs, complete=epochs == PAPER_EPOCHS)


def stock_module(network: ConvNet, parameters: Parameters) -> nn.Sequential:
    """The same ConvNet made of torch's modules, as in the authors' code, with these parameters."""
    height, width = network.padded_size()
    down, right = height - network.height, width - network.width
    layers: list[nn.Module] = [nn.ZeroPad2d((right // 2, right - right // 2, down // 2, down - down // 2))]
    channels = network.channels
    for _ in range(network.depth):
        layers += [
            nn.Conv2d(channels, network.filters, 3, padding=1),
            nn.GroupNorm(network.filters, network.filters),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
        ]
        channels = network.filters
    features = channels * (height >> network.depth) * (width >> network.depth)
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, network.classes))
    with torch.no_grad():
        for own, value in zip(module.parameters(), parameters.values(), strict=True):
            own.copy_(value)
    return module


def _convnet(bundle: MemoryBundle, classes: int) -> ConvNet:
    """The bundle's network without shrinking, which must be a ConvNet for the paper's protocol."""
    manifest = bundle.manifest
    network = build_network(manifest.retraining.network.shrinking(1), manifest.image.shape, classes)
    if not isinstance(network, ConvNet):
        raise SystemExit(f"the paper's protocol needs a convnet, but {manifest.name} has another network")
    return network


@torch.no_grad()
def _module_score(module: nn.Module, problem: Problem) -> float:
    right = 0
    for start in range(0, len(problem.test), 500):
        part = problem.test.select(torch.arange(start, min(start + 500, len(problem.test))))
        images = problem.bundle.preprocessing.to_model(part.pixels()).to(problem.device)
        right += int((module(images).argmax(dim=1).cpu() == part.labels).sum())
    return right / len(problem.test)


def _now(device: torch.device) -> float:
    """The time in seconds after all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _load(options: argparse.Namespace) -> Problem:
    default = BUNDLES / ("digits.safetensors" if options.quick else "fashion-mnist.safetensors")
    bundle = MemoryBundle.load(options.bundle or default)
    if bundle.manifest.queries != "labels":
        raise SystemExit(f"{bundle.manifest.name} is addressed by pictures; this benchmark needs one with labels")
    dataset = load_dataset(options.data or bundle.manifest.provenance.dataset)
    if dataset.classes != bundle.manifest.labels:
        raise SystemExit(f"{dataset.name} has other classes than {bundle.manifest.name}; choose its data with --data")
    device = torch.device(options.device)
    images = bundle.memory.items(bundle.label_queries(bundle.manifest.labels))
    pictures = min(QUICK_PICTURES, len(dataset.test)) if options.quick else len(dataset.test)
    return Problem(bundle, images, dataset.test.select(torch.arange(pictures)), device)


def _warm_up(problem: Problem) -> None:
    """Start thread pools and select kernels, so that neither side is charged for it."""
    few = replace(problem, test=problem.test.select(torch.arange(10)))
    ours(few, 0, problem.bundle.manifest.retraining.model_copy(update={"steps": 2}))
    paper_protocol(few, 0, longest=0.0)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "threads", "quick")
    parser.add_argument("--bundle", type=Path, help="default: fashion-mnist of artifacts/bundles; with --quick, digits")
    parser.add_argument("--data", help="a folder with the test pictures; default: the bundle's data set")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parse(parser, arguments)
    problem = _load(options)
    _warm_up(problem)
    ours_runs: list[Outcome] = []
    paper_runs: list[Outcome] = []
    for seed in range(1 if options.quick else options.runs):
        ours_runs.append(ours(problem, seed, problem.bundle.manifest.retraining))
        _show(seed, "ours", ours_runs[-1])
        paper_runs.append(paper_protocol(problem, seed, longest=QUICK_SECONDS if options.quick else math.inf))
        _show(seed, "paper protocol", paper_runs[-1])
    print_figures(_figures(problem, ours_runs, paper_runs), problem.device)


def _show(seed: int, side: str, run: Outcome) -> None:
    seen = f"{run.epochs:.0f} epochs over all recalled images"
    print(f"seed {seed}  {side:14}  {run.seconds:8.2f} s  {100 * run.accuracy:6.2f} %  {seen}", flush=True)


def _figures(problem: Problem, ours: list[Outcome], paper: list[Outcome]) -> dict[str, object]:
    complete = all(run.complete for run in paper)
    seconds, paper_seconds = (statistics.mean(run.seconds for run in side) for side in (ours, paper))
    return {
        "speedup_over_paper_protocol": round(paper_seconds / seconds, 2),
        "accuracy": round(statistics.mean(run.accuracy for run in ours), 4),
        "accuracy_paper_protocol": round(statistics.mean(run.accuracy for run in paper), 4) if complete else None,
        "seconds": round(seconds, 2),
        "seconds_paper_protocol": round(paper_seconds, 2),
        "epochs": round(ours[0].epochs, 1),
        "epochs_paper_protocol": min(run.epochs for run in paper),
        "runs": len(ours),
        "bundle": problem.bundle.manifest.name,
        "network": str(problem.bundle.manifest.retraining.network),
        "test_pictures": len(problem.test),
    }


if __name__ == "__main__":
    main()
