"""recall-trainer quickstart: from a folder of pictures to a served memory in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recall_server.core.bundle.bundle import MemoryBundle
from trainer.cli import commands, features
from trainer.cli.options import Device, Threads
from trainer.data.second_moments import SecondMoments
from trainer.methods.named import compose
from trainer.run.search.quickstart import Quickstart, next_steps
from trainer.run.search.quickstart import quickstart as make_quickly


def quickstart(
    *,
    folder: Annotated[str, typer.Argument(help="A folder with one folder of pictures per class.")],
    artifacts: Annotated[Path, typer.Option(help="The served folder; the bundle is written to bundles/ in it.")] = (
        Path("artifacts")
    ),
    name: Annotated[str | None, typer.Option(help="The bundle's name; default: the folder's name.")] = None,
    image_size: Annotated[int, typer.Option(help="Resize the pictures to this size.", min=8, max=256)] = 32,
    images_per_class: Annotated[float, typer.Option(help="The budget, in images per class.")] = 10,
    picture: Annotated[Path | None, typer.Option(help="The contact sheet to write; default: NAME.png.")] = None,
    encoder: features.EncoderName = None,
    encoder_size: features.EncoderSize = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle of that name.")] = False,
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Make a memory of your own pictures in seconds, and print what to do next."""
    named = name or Path(folder).resolve().name
    output = artifacts / "bundles" / f"{named}.safetensors"
    if encoder is not None:
        wanted = features.Wanted(encoder, encoder_size, folder, images_per_class)
        bundle = features.distill_in_features(wanted, output, seed=seed, overwrite=overwrite)
        say_written(output, bundle)
        return say_next(bundle, output, folder)
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
    bundle = make_quickly(wish, commands.log_line)
    say_written(output, bundle)
    say_next(bundle, output, folder)


def say_next(bundle: MemoryBundle, output: Path, folder: str) -> None:
    """Print what to type next."""
    for line in next_steps(bundle, output, folder):
        typer.echo(line)


def say_written(output: Path, bundle: MemoryBundle) -> None:
    numbers = bundle.manifest.budget.numbers_stored
    typer.echo(f"{output}: {numbers} numbers, {bundle.file_bytes} bytes, sha256 {bundle.sha256}")
