"""recall-trainer stream: learn tasks that arrive one after another, and write a bundle for each finished task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from trainer.cli.commands import pick_device
from trainer.run.distill import deferred_interrupt
from trainer.streams.experiment import StreamExperiment, prepare
from trainer.streams.methods import METHODS, compose_stream
from trainer.streams.plot import plot_scores
from trainer.streams.scores import Scores, table
from trainer.streams.sources.named import STREAMS


def stream(  # noqa: PLR0913  (a command line has as many options as it has)
    *,
    source: Annotated[str, typer.Argument(help=f"A folder of tasks, or one of {', '.join(STREAMS)}.")],
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "window",
    override: Annotated[list[str] | None, typer.Option("--set", help="section.field=value; repeatable.")] = None,
    memory: Annotated[
        int | None,
        typer.Option(help="The buffer, in real images; default: the paper's size, or ten per task.", min=1),
    ] = None,
    tasks: Annotated[int | None, typer.Option(help="T, the number of tasks that share the buffer.", min=1)] = None,
    samples: Annotated[int | None, typer.Option(help="Samples per task of a named stream.", min=1)] = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the pictures of folders to this size.", min=8)] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for tasks that arrive in the folder later.")] = False,
    bundles: Annotated[Path | None, typer.Option(help="Write a bundle per finished task to this folder.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Store the state of the run in this file.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint.")] = False,
    baselines: Annotated[bool, typer.Option(help="Also run the baselines, with the same memory.")] = False,
    validate: Annotated[bool, typer.Option("--validate", help="Test on held-out training pictures.")] = False,
    picture: Annotated[Path | None, typer.Option(help="A PNG to write, of the accuracy as the stream grows.")] = None,
    seed: int = 0,
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda, for ConvNets; small MLPs are faster on the CPU.")
    ] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; more than one rarely helps.", min=1)] = 1,
) -> None:
    """Learn a stream of tasks in one pass, with a buffer of fixed size and without forgetting earlier tasks.

    Ctrl-C stops between two minibatches and keeps the checkpoint; --resume continues from it.
    """
    torch.set_num_threads(threads)
    if resume and checkpoint is None:
        raise ValueError("--resume needs --checkpoint, the file to continue from")
    experiment = StreamExperiment(
        source,
        compose_stream(method, source, override or []),
        seed,
        memory=memory,
        tasks=tasks,
        samples=samples,
        image_size=image_size,
        follow=follow,
        validate=validate,
        baselines=baselines,
        device=pick_device(device),
    )
    with deferred_interrupt() as stopped:
        run = prepare(experiment, bundles=bundles, checkpoint=checkpoint, report=typer.echo, stopped=stopped)
        if resume:
            run.resume()
        scores: Scores = run.run(stopped=stopped)
    typer.echo(table([scores]))
    if picture is not None:
        plot_scores([scores], picture, title=source)
