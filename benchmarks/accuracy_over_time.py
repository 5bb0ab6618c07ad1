"""Test accuracy of fresh networks against the minutes of distilling, in one run of `recall-trainer`.

    python -m benchmarks.accuracy_over_time [--dataset cifar10] [--minutes 30] [--runs 3] [--device cuda] [--plot FILE]
                                            [--versions FOLDER] [--quick] [-- OPTIONS OF recall-trainer distill]

A run replaces its bundle whenever validation improves. This benchmark keeps every version. After the run it measures
the first version and those that existed after one half, one quarter, one eighth ... of the run's wall-clock minutes.
The run chose the versions on validation pictures; the test set has no influence. Networks are trained by the paper's
protocol. The baseline is random real pictures with the same number of stored floats. With --versions the versions are
kept in FOLDER, and a folder that has versions is measured without another run. --quick: digits. The last line is JSON.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks.command import command_parser, parse, print_figures
from recall_server.core.bundle.bundle import MemoryBundle
from trainer.cli.commands import pick_device
from trainer.data.datasets import load_dataset
from trainer.evaluation.evaluate import Runs, at_full_size, evaluate_labels, evaluate_real, paper_protocol

POLL_SECONDS, HALVINGS = 0.2, 5
QUICK_METHOD: tuple[str, ...] = (
    "objective.network=convnet:filters=16,depth=2",
    "retraining.network=convnet:filters=16,depth=2",
    "objective.steps=10",
)
QUICK_METHOD += ("objective.window=5", "objective.real_batch=60", "objective.eager=true", "outer.rate=0.05")
QUICK = ["--images-per-class", "1", "--bases", "8", "--start", "noise", "--threads", "1"]
QUICK += ["--outer-steps", "20", "--validate-every", "5"]
QUICK += [part for field in QUICK_METHOD for part in ("--set", field)]


class Version(NamedTuple):
    """A bundle and the minutes after which its run published it."""

    minutes: float
    bundle: MemoryBundle


def keep_versions(arguments: Sequence[str], output: Path, folder: Path) -> None:
    """Run `recall-trainer distill` to its end, and copy every bundle that it publishes into the folder."""
    run = subprocess.Popen([sys.executable, "-m", "trainer", "distill", "--output", str(output), *arguments])
    seen = b""
    try:
        ended = False
        while not ended:
            ended = run.poll() is not None  # before looking for a version, so that the last one is not missed
            if output.exists() and (data := output.read_bytes()) != seen:
                seen = data
                (folder / f"{len(list(folder.iterdir())):05}.safetensors").write_bytes(data)
            time.sleep(POLL_SECONDS)
    finally:
        run.kill()
    if run.wait():
        sys.exit(f"recall-trainer distill ended with {run.returncode}")


def read_versions(folder: Path) -> list[Version]:
    """The distinct versions, in order."""
    found: dict[int, Version] = {}
    for path in sorted(folder.glob("*.safetensors")):
        bundle = MemoryBundle.load(path)
        progress = bundle.manifest.progress
        if progress is None:
            sys.exit(f"{path} has no record of its run; only bundles that distill wrote in steps have one")
        found.setdefault(progress.version, Version(progress.minutes, bundle))
    return list(found.values())


def at_marks(versions: Sequence[Version]) -> list[Version]:
    """The first version and those that existed after 1/2, 1/4, ... of the minutes to the last one, in order."""
    last = versions[-1].minutes
    marks = [0.0, *(last / 2**halving for halving in reversed(range(HALVINGS + 1)))]
    found = {max((i for i, each in enumerate(versions) if each.minutes <= mark), default=0) for mark in marks}
    return [versions[index] for index in sorted(found)]


def plot(rows: Sequence[dict[str, float]], real: float, title: str, path: Path) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(
        [row["minutes"] for row in rows],
        [100 * row["accuracy"] for row in rows],
        yerr=[100 * row["spread"] for row in rows],
        marker=".",
        label="recalled",
    )
    axes.axhline(100 * real, linestyle="--", color="grey", label="random real pictures")
    axes.set(xlabel="minutes", ylabel="accuracy on test pictures, %", title=title)
    axes.legend()
    figure.savefig(path)


def read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__, "device", "quick")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--runs", type=int, default=3, help="fresh networks for each version")
    parser.add_argument("--versions", type=Path, help="a folder to keep the versions in, or one that has them")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("distill", nargs="*", help="after --, further options of `recall-trainer distill`")
    options = parse(parser, arguments)
    if options.quick:
        options.dataset, options.minutes, options.runs = "digits", 5.0, 1
        options.distill = [*QUICK, *options.distill]
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = read(arguments)
    device, data = pick_device(options.device), load_dataset(options.dataset)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.versions or Path(temporary, "versions")
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            given = ["--dataset", options.dataset, "--minutes", str(options.minutes), "--device", device.type]
            keep_versions([*given, *options.distill], Path(temporary, f"{data.name}.safetensors"), folder)
        versions = read_versions(folder)
    last, seeds = versions[-1].bundle, range(options.runs)
    retraining = paper_protocol(at_full_size(last.manifest.retraining), queries=len(last.labels), rows=last.memory.rows)
    rows: list[dict[str, float]] = []
    runs = Runs(retraining, seeds, device)
    for minutes, bundle in at_marks(versions):
        found = evaluate_labels(bundle, data.test, runs)
        steps = bundle.manifest.provenance.outer_steps
        rows.append({"minutes": minutes, "outer_steps": steps, "accuracy": found.mean, "spread": found.spread})
        print(f"{minutes:7.2f} minutes, {steps:6} outer steps: {100 * found.mean:.2f} ± {100 * found.spread:.2f} %")
    real = evaluate_real(last, data.train, data.test, runs)
    print(f"random real pictures, the same number of floats: {100 * real.mean:.2f} ± {100 * real.spread:.2f} %")
    if options.plot:
        images = last.manifest.budget.images_per_class
        plot(rows, real.mean, f"{data.name}, {images:g} image(s) per class", options.plot)
    document: dict[str, Any] = {"curve": [{name: round(value, 4) for name, value in row.items()} for row in rows]}
    document |= {"random_real": round(real.mean, 4), "dataset": data.name, "runs": options.runs}
    print_figures(document, device)


if __name__ == "__main__":
    main()
