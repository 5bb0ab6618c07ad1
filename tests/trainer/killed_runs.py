"""Runs that are killed: each writes version after version of a bundle as fast as it can, and says so.

`python -m tests.trainer.killed_runs DATA FOLDER COUNT` is a process of its own, for forking one with threads is unsafe.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.datasets import load_dataset
from trainer.methods.named import compose
from trainer.methods.specs.problem import Problem
from trainer.run.distill import Distillation
from trainer.run.progress import RunLimits, RunState
from trainer.run.publisher import Publisher
from trainer.run.setup.build import fit_preprocessing, real_data
from trainer.run.setup.request import DistillRequest

SMALL = [
    "objective.eager=true",
    "objective.network=convnet:filters=4,depth=1",
    "objective.steps=1",
    "objective.window=1",
    "objective.real_batch=3",
    "objective.rows_per_class=1",
]
SMALL += ["retraining.network=convnet:filters=4,depth=1", "start=noise"]


def request(data: Path, output: Path, *overrides: str, steps: int = 100_000) -> DistillRequest:
    """A run over the bars, of so many outer steps with a validation after each."""
    dataset = load_dataset(str(data))
    method = compose("window", [*SMALL, f"outer.steps={steps}", *overrides])
    return DistillRequest(
        dataset=dataset,
        method=method,
        budget=method.budget(dataset, images_per_class=1, bases=2, rows=None),
        output=output,
        seed=0,
        device=torch.device("cpu"),
        limits=RunLimits(steps, validate_every=1),
        resume=False,
    )


class Killable:
    """Everything that a run needs, made once, so that a forked child starts within milliseconds."""

    def __init__(self, data: Path) -> None:
        self.wish = request(data, Path("replaced"))
        self.preprocessing = fit_preprocessing(self.wish.dataset, self.wish.method)
        self.data = real_data(self.wish.dataset, self.preprocessing, self.wish.device)
        torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # the first optimiser imports for seconds

    def run(self, output: Path) -> None:
        """Distil until killed. Validations go up and down; a line in `said` follows every version written."""
        wish, generator = replace(self.wish, output=output), torch.Generator().manual_seed(0)
        problem = Problem(wish.dataset, self.preprocessing, generator, wish.device)
        components = wish.method.build(problem, wish.budget)
        run = Distillation.of(wish, components, generator)
        publisher, validations = Publisher(wish, components, self.preprocessing), itertools.count(1)
        said = os.open(output.parent / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def validate() -> list[float]:
            number = next(validations)
            return [number / 1_000_000 if number % 3 else 0.0]

        def publish(tensors: Mapping[str, Tensor], progress: RunState) -> None:
            publisher(tensors, progress)
            os.write(said, b"%d\n" % progress.version)

        run.distill(self.data, validate=validate, publish=publish)


def _said(output: Path) -> list[str]:
    file = output.parent / "said"
    return file.read_text().split() if file.exists() else []


def main(data: Path, folder: Path, kills: int) -> None:
    """Start and kill so many runs, each over a folder of its own, at a moment that only the dice know."""
    torch.set_num_threads(1)
    killable, moments = Killable(data), random.Random(0)
    for number in range(kills):
        output = folder / str(number) / "bars.safetensors"
        output.parent.mkdir()
        child = os.fork()
        if not child:
            killable.run(output)
            os._exit(0)
        wanted = moments.randrange(6)  # versions that are surely written, however busy the machine is
        while len(_said(output)) < wanted or not output.exists():
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
