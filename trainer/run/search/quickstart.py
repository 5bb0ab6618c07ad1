"""Makes a bundle in the served folder from a folder of class folders, and says what to do next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import MeasuredAccuracy
from trainer.data.datasets import ImageDataset
from trainer.data.second_moments import SecondMoments
from trainer.evaluation.evaluate import Accuracies, evaluate_labels, evaluate_real
from trainer.evaluation.report import print_accuracies, write_picture
from trainer.methods.named import compose
from trainer.run.progress import RunLimits
from trainer.run.request import DistillRequest
from trainer.run.search.instant import budgets, instant

TEST_PICTURES = 2_000
NETWORKS = 3


@dataclass(frozen=True)
class Quickstart:
    """What to make, and where."""

    dataset: ImageDataset
    moments: SecondMoments
    images_per_class: float
    output: Path
    picture: Path
    seed: int
    device: torch.device
    overwrite: bool = False


def quickstart(wish: Quickstart, tell: Callable[[str], None]) -> MemoryBundle:
    """Make, draw and measure an instant memory. `tell` gets a sentence for each step.

    The accuracy on held-out pictures, and that of real pictures of as many numbers, are recorded in the bundle's
    manifest.
    """
    dataset = wish.dataset
    method = compose("principal")
    choices = budgets(dataset, method, images_per_class=wish.images_per_class)
    request = DistillRequest(
        dataset=dataset,
        method=method,
        budget=choices[0],
        output=wish.output,
        seed=wish.seed,
        device=wish.device,
        limits=RunLimits(0),
        resume=False,
        overwrite=wish.overwrite,
    )
    tell(
        f"{dataset.name}: {len(dataset.classes)} classes, images of {dataset.image_shape}, "
        f"{len(dataset.train)} to learn from, {len(dataset.validation)} to choose by, {len(dataset.test)} to test on"
    )
    instant(request, choices, moments=wish.moments, report=tell)
    write_picture(wish.output, wish.picture)
    tell(f"{wish.picture}: what it remembers")
    bundle = MemoryBundle.load(wish.output)
    results = _measure(bundle, wish)
    print_accuracies(f"{dataset.name}: accuracy on pictures that it has not seen", results)
    return bundle.with_accuracy([_row(bundle, results["recalled"], wish)]).save(wish.output)


def _measure(bundle: MemoryBundle, wish: Quickstart) -> dict[str, Accuracies]:
    retraining, seeds, train = bundle.manifest.retraining, range(NETWORKS), wish.dataset.train
    index = torch.randperm(len(wish.dataset.test), generator=torch.Generator().manual_seed(0))[:TEST_PICTURES]
    test = wish.dataset.test.select(index)
    return {
        "recalled": evaluate_labels(bundle, test, retraining=retraining, seeds=seeds, device=wish.device),
        "real pictures at the same size": evaluate_real(
            bundle, train, test, retraining=retraining, seeds=seeds, device=wish.device
        ),
    }


def _row(bundle: MemoryBundle, accuracies: Accuracies, wish: Quickstart) -> MeasuredAccuracy:
    count = min(len(wish.dataset.test), TEST_PICTURES)
    data = f"{wish.dataset.name} test, {len(wish.dataset.classes)}-way, {count} pictures"
    return accuracies.row(network=str(bundle.manifest.retraining.network), protocol="bundle", data=data)


def next_steps(bundle: MemoryBundle, output: Path, source: str) -> list[str]:
    """The commands that use the bundle, and that improve it."""
    wish = json.dumps({"labels": bundle.labels[:2]}, ensure_ascii=False)
    file = shlex.quote(str(output))
    data = f"--dataset {shlex.quote(source)}"
    improve = f"improve it:  recall-trainer distill {data} --start {file} --output {file} --minutes 30"
    return [
        "serve it:    make serve",
        f"use it:      curl -s http://127.0.0.1:8000/classifier -H 'Prefer: wait=60' --json {shlex.quote(wish)}",
        *([] if bundle.manifest.space == "features" else [improve]),
    ]
