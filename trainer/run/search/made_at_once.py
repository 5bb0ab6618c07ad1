"""What memories without outer steps share: their manifest, and the accuracy on test pictures, which are read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.describe import describe, made_now
from recall_server.core.bundle.manifest import Manifest
from recall_server.core.memory import AbstractMemory
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.device import device_name
from trainer.data.datasets import ImageDataset
from trainer.evaluation.evaluate import Runs, evaluate_labels

Report = Callable[[str], None]


def manifest_of(
    memory: AbstractMemory,
    preprocessing: AbstractPreprocessing,
    data: ImageDataset,
    output: Path,
    *,
    made: Mapping[str, Any],
    **other: Any,
) -> Manifest:
    """The manifest of a memory of `data` that was made on the CPU.

    `made` is what its origin says besides, and `other` what the manifest says besides.
    """
    here = device_name(torch.device("cpu"))
    origin = made_now(dataset=data.name, dataset_licence=data.licence, device=here, **made)
    return describe(
        output.stem, memory, preprocessing, labels=data.classes, groups=data.groups, provenance=origin, **other
    )


def with_test_accuracy(bundle: MemoryBundle, data: ImageDataset, runs: Runs, what: str, report: Report) -> MemoryBundle:
    """The bundle with its accuracy on the test pictures, which are read once, as the mean of so many of `what`."""
    read = f"{data.name} test, {len(data.classes)}-way, {len(data.test)} pictures"
    row = evaluate_labels(bundle, data.test, runs).row(
        network=str(runs.retraining.network), protocol="bundle", data=read
    )
    report(f"{100 * row.mean:.2f} % of {len(data.test)} test pictures, mean of {len(runs.seeds)} {what}")
    return bundle.with_accuracy([row])
