"""recall-trainer: distill data sets into memory bundles, measure and look at them.

recall-trainer quickstart FOLDER
recall-trainer distill --dataset fashion-mnist --bases 16 --output artifacts/bundles/NAME.safetensors
recall-trainer evaluate artifacts/bundles/NAME.safetensors --dataset fashion-mnist
recall-trainer inspect artifacts/bundles/NAME.safetensors --picture NAME.png
recall-trainer stream FOLDER_OF_TASKS --bundles artifacts/bundles
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from pydantic import ValidationError

from recall_server.allocator import keep_freed_memory
from recall_server.bundle import MemoryBundle
from recall_server.errors import RecallError
from trainer import commands
from trainer.added_class import NewClass, add_classes
from trainer.datasets import load_dataset
from trainer.distill import Interrupted
from trainer.methods import METHODS, compose
from trainer.quickstart import Quickstart, next_steps
from trainer.quickstart import quickstart as make_quickly
from trainer.report import evaluate_bundle, print_manifest, write_card, write_picture
from trainer.request import Request
from trainer.run_progress import Limits
from trainer.second_moments import SecondMoments
from trainer.streams.command import stream

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
    images_per_class: Annotated[
        float | None, typer.Option(help="The budget: numbers of that many images per class; default: 1.")
    ] = None,
    bases: Annotated[
        int | None, typer.Option(help="K, the number of bases; default: 16, or chosen on validation data by principal.")
    ] = None,
    rows: Annotated[int | None, typer.Option(help="r; default: the largest that fits the budget.", min=1)] = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "window",
    start: Annotated[
        str | None, typer.Option(help="principal, noise, or a bundle to go on from; default: the method's own.")
    ] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="field=value of the method; repeatable.")] = None,
    outer_steps: Annotated[
        int | None, typer.Option(help="Outer steps; default: the method's, without --minutes.", min=0)
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop cleanly after so many minutes.", min=0.01)] = None,
    validate_every: Annotated[int, typer.Option(help="Outer steps between validations.", min=1)] = 250,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint beside OUTPUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that OUTPUT holds already.")] = False,
    image_size: ImageSize = None,
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Distill a data set into a bundle that is there at once and gets better for as long as this runs.

    Ctrl-C leaves the best bundle so far and a checkpoint; --resume goes on from it.
    """
    if threads:
        torch.set_num_threads(threads)
    if output.suffix != ".safetensors":
        raise ValueError(f"--output must end in .safetensors, not {output.name!r}")
    steps = [] if outer_steps is None else [f"outer_steps={outer_steps}"]
    begin, bundle = commands.read_start(start)
    composed = compose(method, [*(override or []), *steps, *begin])
    # Without a number of steps the clock alone shapes the run; a method without steps has none to time.
    by_clock = minutes is not None and outer_steps is None and composed.outer_steps > 0
    data, moments = commands.read_data(dataset, composed, image_size=image_size, seed=seed)
    choices = commands.choose_budgets(data, composed, bundle, images_per_class=images_per_class, bases=bases, rows=rows)
    request = Request(
        dataset=data,
        method=composed,
        budget=choices[0],
        output=output.resolve(),
        seed=seed,
        device=commands.pick_device(device),
        limits=Limits(None if by_clock else composed.outer_steps, minutes, validate_every),
        resume=resume,
        start=bundle,
        overwrite=overwrite,
    )
    made = commands.make(request, choices, moments)
    typer.echo(f"{output}: {made.memory.stored_numbers()} numbers, {made.file_bytes} bytes, sha256 {made.sha256}")


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


@app.command()
def quickstart(
    *,
    folder: Annotated[str, typer.Argument(help="A folder with one folder of pictures for each class.")],
    artifacts: Annotated[Path, typer.Option(help="The folder that is served; the bundle goes to bundles/ in it.")] = (
        Path("artifacts")
    ),
    name: Annotated[str | None, typer.Option(help="Of the bundle; default: the folder's.")] = None,
    image_size: Annotated[int, typer.Option(help="Bring the pictures to this size.", min=8, max=256)] = 32,
    images_per_class: Annotated[float, typer.Option(help="The budget: numbers of that many images per class.")] = 10,
    picture: Annotated[Path | None, typer.Option(help="The contact sheet; default: NAME.png here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle of that name.")] = False,
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """A memory of your own pictures within seconds, in the folder that is served, with what to do next."""
    if threads:
        torch.set_num_threads(threads)
    named = name or Path(folder).resolve().name
    output = artifacts / "bundles" / f"{named}.safetensors"
    data, moments = commands.read_data(folder, compose("principal"), image_size=image_size, seed=seed)
    wish = Quickstart(
        dataset=data,
        moments=moments or SecondMoments(),
        images_per_class=images_per_class,
        output=output.resolve(),
        picture=picture or Path(f"{named}.png"),
        seed=seed,
        device=commands.pick_device(device),
        overwrite=overwrite,
    )
    bundle = make_quickly(wish, commands.tell)
    typer.echo(f"{output}: {bundle.memory.stored_numbers()} numbers, {bundle.file_bytes} bytes")
    for line in next_steps(bundle, output, folder, image_size):
        typer.echo(line)


@app.command()
def add_class(
    *,
    bundle: Annotated[Path, typer.Argument(help="A bundle of bases, addressed by labels.")],
    folders: Annotated[list[Path], typer.Argument(help="One folder of pictures for each new class.")],
    name: Annotated[list[str] | None, typer.Option(help="Of a class, in the order of the folders.")] = None,
    further_bases: Annotated[int, typer.Option(help="Bases to add, where the budget has room for them.", min=0)] = 0,
    output: Annotated[Path | None, typer.Option(help="The bundle to write; default: BUNDLE itself.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that OUTPUT holds already.")] = False,
    seed: int = 0,
) -> None:
    """Add classes to a memory from pictures, without the data that it was made from. Old classes stay as they are."""
    names = name or [folder.resolve().name for folder in folders]
    if len(names) != len(folders):
        raise ValueError(f"{len(folders)} folders need as many --name, not {len(names)}")
    target = output or bundle
    before = MemoryBundle.load(bundle)
    if target.exists() and not overwrite and not target.samefile(bundle):
        raise ValueError(f"{target.name} exists already; write to another --output, or replace it with --overwrite")
    added = [NewClass.read(folder, before, each) for folder, each in zip(folders, names, strict=True)]
    for each in added:
        for sentence in each.unreadable:
            commands.tell(f"left out: {sentence}")
    larger = add_classes(before, added, further_bases=further_bases, seed=seed, name=target.stem).save(target)
    typer.echo(f"{target}: {len(larger.labels)} labels, {larger.memory.stored_numbers()} numbers")


@app.command()
def card(bundle: Annotated[Path, typer.Argument(help="A bundle.")]) -> None:
    """Write a bundle's card, NAME.md beside it: what it knows, how good it is, what not to use it for."""
    typer.echo(f"{write_card(bundle)}: the card of {bundle.name}")


app.command()(stream)


def main() -> None:
    """The console script: errors that are the caller's to mend end in one sentence and status 2."""
    keep_freed_memory()
    try:
        app(standalone_mode=True)
    except Interrupted:
        typer.echo("stopped; the best bundle so far and the checkpoint are kept, go on with --resume", err=True)
        sys.exit(130)
    except (RecallError, ValueError, ValidationError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
