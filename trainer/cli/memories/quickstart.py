"""recall-trainer quickstart: from a folder of pictures to a served memory in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from recall_server.core.bundle.layout import BUNDLES
from recall_server.core.encoders.query_encoder import QueryEncoder
from trainer.cli import commands
from trainer.cli.memories.features import EncoderSize, Wanted, find_encoder, read_features
from trainer.cli.memories.next_steps import next_steps
from trainer.cli.options import Device, Threads
from trainer.data.encoders.installed import NoEncoder
from trainer.data.second_moments import SecondMoments
from trainer.methods.named import compose
from trainer.output.places import check_name, check_place, derived_name
from trainer.run.search.quickstart import Pixels, Quickstart
from trainer.run.search.quickstart import quickstart as make_quickly

USUAL_ENCODER: Final = "efficientnet-lite0"
NO_ENCODER: Final = "none"
USUAL_SIZE: Final = 32  # of pixels


def quickstart(  # noqa: PLR0913  (a command line has as many options as it has)
    *,
    folder: Annotated[str, typer.Argument(help="A folder with one folder of pictures per class, or a data set.")],
    artifacts: Annotated[Path, typer.Option(help="The served folder; the bundle is written to bundles/ in it.")] = (
        Path("artifacts")
    ),
    name: Annotated[str | None, typer.Option(help="The bundle's name; default: the folder's name.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="The size of pixels; default: 32 for folders.", min=8, max=256)
    ] = None,
    images_per_class: Annotated[float, typer.Option(help="The budget, in images per class.")] = 10,
    picture: Annotated[
        Path | None, typer.Option(help="The contact sheet of a memory of pixels; default: NAME.png.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="`none` keeps to pixels, NAME to the features of that encoder; default: the better of pixels and "
            f"{USUAL_ENCODER}."
        ),
    ] = None,
    encoder_size: EncoderSize = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle of that name.")] = False,
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Make a memory of your own pictures within a minute, in features or in pixels, and print what to do next."""
    named = _named(name, folder)
    output, sheet = artifacts / BUNDLES / f"{named}.safetensors", picture or Path(f"{named}.png")
    check_name(output, "--name")
    check_place(output, "--name", overwrite=overwrite)
    check_place(sheet, "--picture")
    found = None if encoder == NO_ENCODER else _encoder(encoder, output, encoder_size)
    wanted = Wanted(encoder or USUAL_ENCODER, encoder_size, folder, images_per_class)

    def pixels() -> Pixels:
        data, moments = commands.read_data(
            folder, compose("principal"), image_size=image_size, usual_size=USUAL_SIZE, seed=seed, quiet=bool(found)
        )
        return Pixels(data, moments or SecondMoments())

    wish = Quickstart(
        features=None if found is None else lambda: read_features(wanted, found, output, seed=seed),
        pixels=None if encoder not in (None, NO_ENCODER) else pixels,
        images_per_class=images_per_class,
        output=output.resolve(),
        picture=sheet,
        seed=seed,
        device=commands.pick_device(device),
        overwrite=overwrite,
    )
    bundle = make_quickly(wish, commands.log_line)
    commands.say_written(output, bundle)
    for line in next_steps(bundle, output, folder):
        typer.echo(line)


def _named(name: str | None, folder: str) -> str:
    """The name that is given, or one that is derived from the folder's, which is said where it differs."""
    if name is not None:
        return name
    own = Path(folder).resolve().name
    derived = derived_name(own)
    if derived != own:
        commands.log_line(f"the memory of {own!r} is called {derived}; --name gives it another name")
    return derived


def _encoder(name: str | None, output: Path, size: int | None) -> QueryEncoder | None:
    """The encoder; None, with a sentence, where nobody asked for one and the usual one is missing."""
    try:
        return find_encoder(name or USUAL_ENCODER, output, size=size)
    except NoEncoder as error:
        if name is not None:
            raise
        commands.log_line(f"{error}. Memories of photographs are far better with it; this one is of pixels")
        return None
