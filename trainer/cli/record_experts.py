"""recall-trainer record-experts: train the networks whose trajectories a memory matches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from trainer.cli import commands, options
from trainer.cli.options import Device, Threads
from trainer.methods.named import compose
from trainer.methods.specs.objectives.trajectory import TrajectorySpec
from trainer.methods.specs.problem import Problem
from trainer.run.setup.build import fit_preprocessing


def record_experts(
    *,
    dataset: Annotated[str, typer.Option(help="A known name, a folder of class folders, or a folder of npz files.")],
    method: options.MethodName = "mtt-small",
    override: options.Overrides = None,
    output: Annotated[
        Path | None, typer.Option(help="The folder to write; default: the cache, where the methods look.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the pictures of a folder to this size.", min=8)] = None,
    seed: Annotated[int, typer.Option(help="The seed of the distillation, which divides the pictures.")] = 0,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Record the experts of a method that matches trajectories. The same command continues a stopped recording.

    Methods with the same network, preprocessing and experts share them. With --output, name the folder to `distill`:
    --set objective.experts.folder=FOLDER.
    """
    composed = compose(method or "mtt-small", override or [])
    objective = composed.objective
    if not isinstance(objective, TrajectorySpec):
        raise ValueError(f"the method {composed.name} matches no trajectories, so it has no experts; use mtt-small")
    data, _ = commands.read_data(dataset, composed, image_size=image_size, seed=seed)
    problem = Problem(
        data, fit_preprocessing(data, composed), torch.Generator().manual_seed(seed), commands.pick_device(device)
    )

    def report(number: int, epochs: int) -> None:
        commands.log_line(f"expert {number + 1} of {objective.experts.count}: {epochs} of {objective.experts.epochs}")

    folder = objective.record(problem, output, report)
    typer.echo(f"{folder}: {objective.experts.count} experts of {objective.experts.epochs} epochs")
