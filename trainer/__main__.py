"""recall-trainer: distill data sets into memory bundles, measure and look at them.

recall-trainer distill --dataset fashion-mnist --bases 16 --output artifacts/bundles/NAME.safetensors
recall-trainer evaluate artifacts/bundles/NAME.safetensors --dataset fashion-mnist
recall-trainer inspect artifacts/bundles/NAME.safetensors --picture NAME.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from pydantic import ValidationError

from recall_server.allocator import keep_freed_memory
from recall_server.errors import RecallError
from trainer import commands
from trainer.compose import Budget
from trainer.datasets import load_dataset
from trainer.distill import Interrupted, Limits
from trainer.methods import METHODS, compose
from trainer.report import evaluate_bundle, print_manifest, write_picture

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Threads = Annotated[int, typer.Option(help="Processor threads to use; 0 leaves the choice to torch.", min=0)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Dataset = Annotated[str, typer.Option(help="A torchvision name, digits, a folder of class folders, or of npz files.")]
ImageSize = Annotated[int | None, typer.Option(help="Bring the pictures of a folder to this size.", min=8, max=256)]


@app.command()
def distill(  # noqa: PLR0913  (a command line has as many options as it has)
    *,
    dataset: Dataset,
    output: Annotated[Path, typer.Option(help="The bundle to write, NAME.safetensors.")],
    images_per_class: Annotated[float, typer.Option(help="The budget: numbers of that many images per class.")] = 1,
    bases: Annotated[int, typer.Option(help="K, the number of bases.")] = 16,
    rows: Annotated[int | None, typer.Option(help="r; default: the largest that fits the budget.", min=1)] = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "window",
    override: Annotated[list[str] | None, typer.Option("--set", help="field=value of the method; repeatable.")] = None,
    outer_steps: Annotated[
        int | None, typer.Option(help="Outer steps; default: the method's, without --minutes.", min=0)
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop cleanly after so many minutes.", min=0.01)] = None,
    validate_every: Annotated[int, typer.Option(help="Outer steps between validations.", min=1)] = 250,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint beside OUTPUT.")] = False,
    image_size: ImageSize = None,
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Distill a data set into a bundle. Ctrl-C keeps a checkpoint; --resume goes on from it."""
    if threads:
        torch.set_num_threads(threads)
    if output.suffix != ".safetensors":
        raise ValueError(f"--output must end in .safetensors, not {output.name!r}")
    steps = [] if outer_steps is None else [f"outer_steps={outer_steps}"]
    composed = compose(method, [*(override or []), *steps])
    # Without a number of steps the clock alone shapes the run; a method without steps has none to time.
    by_clock = minutes is not None and outer_steps is None and composed.outer_steps > 0
    limits = Limits(None if by_clock else composed.outer_steps, minutes, validate_every)
    data = load_dataset(dataset, image_size=image_size, seed=seed)
    budget = Budget.fit(data, composed, images_per_class=images_per_class, bases=bases, rows=rows)
    request = commands.Request(
        dataset=data,
        method=composed,
        budget=budget,
        output=output.resolve(),
        seed=seed,
        device=commands.pick_device(device),
        limits=limits,
        resume=resume,
    )
    bundle = commands.distill(request)
    typer.echo(f"{output}: {bundle.memory.stored_numbers()} numbers, {bundle.file_bytes} bytes, sha256 {bundle.sha256}")


@app.command()
def evaluate(
    *,
    bundle: Annotated[Path, typer.Argument(help="A bundle to evaluate on its data set's test pictures.")],
    dataset: Dataset,
    runs: Annotated[
        int, typer.Option(help="Fresh networks, or few-shot episodes for a bundle of pictures.", min=1)
    ] = 5,
    network: Annotated[str | None, typer.Option(help="Such as convnet:filters=64; default: the bundle's own.")] = None,
    protocol: Annotated[str, typer.Option(help="paper (300 epochs at 0.01) or bundle (its own schedule).")] = "paper",
    record: Annotated[bool, typer.Option("--record", help="Write the accuracy into the bundle's manifest.")] = False,
    image_size: ImageSize = None,
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Train fresh networks on what a bundle recalls; accuracy on the test set beside its baselines."""
    if threads:
        torch.set_num_threads(threads)
    evaluate_bundle(
        bundle,
        load_dataset(dataset, image_size=image_size),
        seeds=range(seed, seed + runs),
        network=network,
        protocol=protocol,
        record=record,
        device=commands.pick_device(device),
    )


@app.command()
def inspect(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    picture: Annotated[Path | None, typer.Option(help="Write a PNG of its bases and recalled images here.")] = None,
) -> None:
    """Print a bundle's manifest; write a picture of its bases and of images that it recalls."""
    print_manifest(bundle)
    if picture is not None:
        write_picture(bundle, picture)


def main() -> None:
    """The console script: errors that are the caller's to mend end in one sentence and status 2."""
    keep_freed_memory()
    try:
        app(standalone_mode=True)
    except Interrupted:
        typer.echo("stopped; the checkpoint is kept, go on with --resume", err=True)
        sys.exit(130)
    except (RecallError, ValueError, ValidationError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
