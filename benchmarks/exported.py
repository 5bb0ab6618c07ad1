"""An exported bundle, scored by a published benchmark: DD-Ranking, in its own environment.

    python -m venv FOLDER && FOLDER/bin/pip install ddranking==0.2.0
    python -m benchmarks.exported --python FOLDER/bin/python [--bundle FILE] [--per-label N] [--quick]

Without --bundle, a memory of CIFAR-10 at one image per class is made by the method `principal`, in seconds. Its
recalled images are exported as by `recall-trainer export --format ddranking`. The package trains its own ConvNets on
the export and on as many random real pictures as the bundle has images per class, and scores both on the test set. For
comparison, fresh networks of this project are trained on the same images, for as many epochs at the same rate. Batches
and decay differ: the package uses batches of 256 and decays the rate and the weights; this project uses the paper's
protocol. --quick: few images, epochs and test pictures. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command import CPU, NARROW, command_parser, print_figures
from benchmarks.instant import make
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.networks import NetworkSpec
from recall_server.core.training.allocator import keep_freed_memory
from trainer.cli.files.export import export_bundle
from trainer.data.datasets import ImageDataset, Split, load_dataset
from trainer.evaluation.evaluate import Accuracies, Runs, evaluate_pictures, paper_protocol
from trainer.methods.named import compose
from trainer.output.export.images import recall_images

SCORER = Path(__file__).with_name("exported_scorer.py")


def check(python: Path) -> None:
    """Raise SystemExit if this interpreter has no DD-Ranking, before minutes are spent."""
    try:
        ran = subprocess.run(
            [str(python), "-c", "import ddranking.metrics"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise SystemExit(f"{python} cannot be started: {error.strerror}") from error
    if ran.returncode != 0:
        raise SystemExit(f"{python} cannot import ddranking: {ran.stderr.strip().splitlines()[-1]}")


def write_arrays(split: Split, path: Path) -> None:
    """Write a split as the arrays `images` [N, H, W, C] and `labels`."""
    np.savez(path, images=split.images.permute(0, 2, 3, 1).numpy(), labels=split.labels.numpy())


def scored(python: Path, images: Path, data: Path, *, images_per_class: int, epochs: int, runs: int) -> dict[str, Any]:
    """The package's scores, computed in its own environment. Raises RuntimeError with its last output if it fails."""
    command = [str(python), str(SCORER), "--images", str(images), "--data", str(data)]
    command += ["--images-per-class", str(images_per_class), "--epochs", str(epochs), "--runs", str(runs)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise RuntimeError(f"{python} could not score the export: {ran.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


def ours(bundle: MemoryBundle, test: Split, *, per_label: int, epochs: int, runs: int) -> Accuracies:
    """Accuracy of fresh networks of this project on the same images, for as many epochs at the bundle's rate.

    As in the package, test pictures are not projected onto the memory's bases.
    """
    recalled = recall_images(bundle, per_label)
    images = recalled.pixels.reshape(len(bundle.labels), per_label, *recalled.pixels.shape[1:])
    retraining = bundle.manifest.retraining.model_copy(update={"network": NetworkSpec(), "augmentation": "none"})
    paper = paper_protocol(retraining, queries=len(bundle.labels), rows=per_label)
    steps = epochs * -(-per_label // paper.rows_per_class)
    schedule = paper.model_copy(update={"steps": steps, "learning_rate": retraining.learning_rate})
    return evaluate_pictures(bundle, images, test, Runs(schedule, range(runs), CPU))


def compare(dataset: ImageDataset, path: Path, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Export the images, score them on both sides, and return the figures by name."""
    bundle = MemoryBundle.load(path)
    if dataset.digest != bundle.manifest.provenance.dataset_sha256:
        raise ValueError(f"{path.name} was not made from {dataset.name}, on which DD-Ranking would score it")
    test = dataset.test.select(torch.arange(min(options.tests, len(dataset.test))))
    write_arrays(dataset.train, folder / "train.npz")
    write_arrays(test, folder / "test.npz")
    export_bundle(path, "ddranking", folder / "images", per_label=options.per_label)
    counts = {"epochs": options.epochs, "runs": options.runs}
    size = max(1, int(bundle.manifest.budget.images_per_class))
    theirs = scored(options.python, folder / "images", folder, images_per_class=size, **counts)
    mine = ours(bundle, test, per_label=options.per_label, **counts)
    return {
        "accuracy_ddranking": round(float(np.mean(theirs["synthetic"])) / 100, 4),
        "accuracy_ddranking_random_real": round(float(np.mean(theirs["random"])) / 100, 4),
        "improvement_over_random": round(float(np.mean(theirs["improvement_over_random"])), 2),
        "hard_label_recovery": round(float(np.mean(theirs["hard_label_recovery"])), 2),
        "accuracy": round(mine.mean, 4),
        "spread": round(mine.spread, 4),
        "per_label": options.per_label,
        "test_pictures": len(test),
        **counts,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--python", type=Path, required=True, help="the interpreter of DD-Ranking's environment")
    parser.add_argument("--bundle", type=Path, help="a bundle of CIFAR-10; default: an instant memory")
    parser.add_argument("--per-label", type=int, default=115)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tests", type=int, default=10_000, help="test pictures")
    options = parser.parse_args(arguments)
    if options.quick:
        options.per_label, options.epochs, options.runs, options.tests = 4, 4, 1, 200
    check(options.python)
    keep_freed_memory()
    dataset = load_dataset("cifar10")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = options.bundle or folder / "instant.safetensors"
        if options.bundle is None:
            make(dataset, compose("principal", NARROW if options.quick else []), 1, folder)
        options.per_label = min(options.per_label, MemoryBundle.load(path).memory.rows)
        figures = compare(dataset, path, options, folder)
    print_figures(figures)


if __name__ == "__main__":
    main()
