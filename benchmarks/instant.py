"""Instant memories compared with real pictures of the same number of stored floats.

    python -m benchmarks.instant [--datasets fashion-mnist,cifar10] [--budgets 1,10] [--results FILE]
                                 [--device auto] [--quick]

A cell is a data set and a budget in images per class. `seconds` is the time from the training pictures, as arrays in
memory, to a usable bundle on the disk; `chosen_seconds` is the time until the number of bases and the augmentation are
chosen on validation pictures. Then fresh ConvNets of depth 3 and width 128 are trained with the bundle's schedule and
augmentation, on recalled images, on random real pictures and on herded ones. The test set is read once, at the end.
Figures are saved to FILE after every cell, and cells in FILE are not run again. Networks are trained on the device, by
default the CPU; eigenvectors and centroids are computed on the CPU. --quick: scikit-learn's digits and a narrow
network, one cell. The last line is JSON.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import CPU, NARROW, KeptCells, command_parser, parse, print_figures
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.training.device import device_name
from recall_server.errors import InvalidRequest
from trainer.cli.commands import pick_device
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.data.second_moments import SecondMoments
from trainer.evaluation.evaluate import Accuracies, Runs, evaluate_labels, evaluate_pictures, evaluate_real, herded
from trainer.methods.method import Method
from trainer.methods.named import compose
from trainer.run.progress import RunLimits
from trainer.run.search.instant import budgets, instant
from trainer.run.setup.request import DistillRequest

DATASETS = ("fashion-mnist", "cifar10", "mnist", "cifar100")
BUDGETS = (1, 10, 50)


def make(
    dataset: ImageDataset, method: Method, images_per_class: int, folder: Path, device: torch.device = CPU
) -> dict[str, Any]:
    """Make the instant memory of a cell in `folder`, and return the seconds that it took."""
    started = time.perf_counter()
    moments = SecondMoments()
    for chunk in dataset.train.chunks():
        moments(chunk)
    choices = budgets(dataset, method, images_per_class=images_per_class)
    request = DistillRequest(
        dataset=dataset,
        method=method,
        budget=choices[0],
        output=folder / "instant.safetensors",
        seed=0,
        device=device,
        limits=RunLimits(0),
        resume=False,
    )
    seconds: list[float] = []

    def report(sentence: str) -> None:
        seconds.append(time.perf_counter() - started)
        print(f"  {sentence}", flush=True)

    instant(request, choices, moments=moments, report=report)
    return {"seconds": round(seconds[0], 2), "chosen_seconds": round(time.perf_counter() - started, 1)}


def measure(path: Path, dataset: ImageDataset, runs: int, device: torch.device) -> dict[str, Any]:
    """Test accuracy of fresh networks trained on the memory and on both kinds of real pictures."""
    bundle = MemoryBundle.load(path)
    train, test = dataset.train, dataset.test
    fresh = Runs(bundle.manifest.retraining, range(runs), device)
    results: dict[str, Accuracies] = {
        "accuracy": evaluate_labels(bundle, test, fresh),
        "accuracy_random_real": evaluate_real(bundle, train, test, fresh),
        "accuracy_herding": evaluate_pictures(bundle, herded(bundle, train), test, fresh),
    }
    made = bundle.manifest.provenance.hyper_parameters
    return {
        **{name: round(values.mean, 4) for name, values in results.items()},
        **{name.replace("accuracy", "spread"): round(values.spread, 4) for name, values in results.items()},
        "bases": made["memory.bases"],
        "rows": made["memory.rows"],
        "augmentation": bundle.manifest.retraining.augmentation,
        "numbers_stored": bundle.manifest.budget.numbers_stored,
        "file_bytes": bundle.file_bytes,
        "runs": runs,
    }


def cell(name: str, images_per_class: int, runs: int, overrides: Sequence[str], device: torch.device) -> dict[str, Any]:
    """All figures of one cell."""
    dataset = load_dataset(name)
    with tempfile.TemporaryDirectory() as folder:
        made = make(dataset, compose("principal", overrides), images_per_class, Path(folder), device)
        figures = made | measure(Path(folder) / "instant.safetensors", dataset, runs, device)
    return figures | {"threads": torch.get_num_threads(), "device": device_name(device)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "results", "threads", "quick")
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    options = parse(parser, arguments)
    try:
        device = pick_device(options.device)
    except InvalidRequest as error:
        parser.error(str(error))
    names = ["digits"] if options.quick else options.datasets.split(",")
    sizes = [1] if options.quick else [int(size) for size in options.budgets.split(",")]
    kept = KeptCells(options.results, {"quick": options.quick, "runs": options.runs})
    for size in sizes:  # the cheapest cells of all data sets first
        for name in names:
            overrides = NARROW if options.quick else []
            kept.measure(f"{name} {size}", partial(cell, name, size, options.runs, overrides, device))
    print_figures({"cells": kept.cells}, device)


if __name__ == "__main__":
    main()
