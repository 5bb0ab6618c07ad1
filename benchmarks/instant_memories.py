"""Instant memories with a given budget, for benchmarks that compare them."""

from __future__ import annotations

from pathlib import Path

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from trainer.data.datasets import ImageDataset
from trainer.methods.method import Method
from trainer.methods.specs.budget import MemoryBudget
from trainer.run.progress import RunLimits
from trainer.run.search.instant import InstantRun
from trainer.run.setup.request import DistillRequest


def instant_memory(dataset: ImageDataset, method: Method, budget: MemoryBudget, output: Path) -> MemoryBundle:
    """The instant memory of a data set with exactly this budget, made on the CPU; replaces the file `output`."""
    request = DistillRequest(
        dataset=dataset,
        method=method,
        budget=budget,
        output=output,
        seed=0,
        device=torch.device("cpu"),
        limits=RunLimits(0),
        resume=False,
        overwrite=True,
    )
    run = InstantRun(request, None, lambda sentence: print(f"  {output.stem}: {sentence}", flush=True))
    run.consider(method, budget)
    return MemoryBundle.load(output)
