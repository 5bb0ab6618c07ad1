"""Validation accuracy against minutes of distilling, from the starts `principal` and `noise`.

    python -m benchmarks.start [--dataset fashion-mnist] [--minutes 10] [--set field=value ...] [--plot FILE] [--quick]

Both runs have the same method, budget, seed, limit and validations, and run one after the other on one core. Minutes
are CPU time, so other load on the machine does not matter. The accuracy at a minute is the best so far, because a
bundle is only replaced by a better one. With --whitened, the same two curves are added in whitened space, and `space`
names the one whose best curve ends higher, by validation pictures only. The test set is never read. --plot draws the
curves. --quick: digits, six seconds each. The last line is JSON with `minutes` and `accuracy` of every curve.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.command import CPU, command_parser, parse, print_figures
from trainer.cli import commands
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.methods.named import compose
from trainer.run.progress import RunLimits
from trainer.run.setup.request import DistillRequest

STARTS = ("principal", "noise")
SMALL = [
    "objective.network=convnet:filters=16,depth=2",
    "objective.steps=10",
    "objective.window=5",
    "objective.real_batch=60",
    "objective.eager=true",
]


def curve(dataset: ImageDataset, overrides: Sequence[str], options: argparse.Namespace) -> list[list[float]]:
    """The points [minutes, validation accuracy] of one run."""
    method = compose(options.method, overrides)
    budget = method.budget(dataset, images_per_class=options.images_per_class, bases=options.bases, rows=options.rows)
    with tempfile.TemporaryDirectory() as folder:
        request = DistillRequest(
            dataset=dataset,
            method=method,
            budget=budget,
            output=Path(folder) / "curve.safetensors",
            seed=options.seed,
            device=CPU,
            limits=RunLimits(
                None, options.minutes, options.validate_every, checkpoint_seconds=1e9, clock=time.process_time
            ),
            resume=False,
        )
        progress = commands.distill(request).manifest.progress
    assert progress is not None, "every run says how far it came"
    return [[point.minutes, point.accuracy] for point in progress.validation]


def at_every_minute(points: list[list[float]], minutes: float) -> list[float]:
    """The best accuracy so far at the end of every tenth of the run."""
    marks = [minutes * (number + 1) / 10 for number in range(10)]
    return [max((accuracy for time, accuracy in points if time <= mark), default=0.0) for mark in marks]


def plot(curves: dict[str, list[list[float]]], title: str, path: Path) -> None:
    """Plot all curves."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
    axes.set(xlabel="minutes", ylabel="accuracy on validation pictures", title=title)
    axes.legend()
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "seed", "quick")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--method", default="window")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--images-per-class", type=float, default=1)
    parser.add_argument("--bases", type=int, default=16)
    parser.add_argument("--rows", type=int, help="default: as many as fit the budget")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--validate-every", type=int, default=25)
    parser.add_argument("--whitened", action="store_true", help="also run in whitened space")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parse(parser, arguments)
    if options.quick:
        options.dataset, options.minutes, options.overrides, options.bases = "digits", 0.1, SMALL, 8
    dataset = load_dataset(options.dataset)
    curves: dict[str, list[list[float]]] = {}
    for space in ("standardise", "zca") if options.whitened else ("standardise",):
        for start in STARTS:
            name = f"{start}, whitened" if space == "zca" else start
            fixed = [f"start={start}", f"preprocessing={space}"]
            curves[name] = curve(dataset, [*options.overrides, *fixed], options)
            print(f"{name}: " + ", ".join(f"{time:.1f} min {accuracy:.3f}" for time, accuracy in curves[name]))
    if options.plot:
        plot(curves, f"{dataset.name}, {options.images_per_class:g} image(s) per class", options.plot)
    print_figures(figures(curves, options) | {"dataset": dataset.name})


def figures(curves: dict[str, list[list[float]]], options: argparse.Namespace) -> dict[str, Any]:
    """The curves by name, at ten points each, and the figures computed from them."""
    marks = {name: at_every_minute(points, options.minutes) for name, points in curves.items()}
    best = max(marks, key=lambda name: marks[name][-1])
    return {
        "minutes": [round(options.minutes * (number + 1) / 10, 3) for number in range(10)],
        "accuracy": {name: [round(value, 4) for value in values] for name, values in marks.items()},
        "accuracy_of_the_start": {name: round(points[0][1], 4) for name, points in curves.items()},
        "principal_ahead_throughout": all(
            ours > theirs for ours, theirs in zip(marks["principal"], marks["noise"], strict=True)
        ),
        "space": "zca" if "whitened" in best else "standardise",
    }


if __name__ == "__main__":
    main()
