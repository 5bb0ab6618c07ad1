"""recall-trainer select-bases: choose the number of bases for a budget on validation pictures."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from recall_server.core.io.atomic import write_atomically
from trainer.cli import commands, options
from trainer.data.datasets import load_dataset
from trainer.methods import recipe_choice
from trainer.methods.named import compose
from trainer.methods.overrides import given
from trainer.methods.specs.budget import Size
from trainer.output.plots.figures import to_bytes
from trainer.run.search.select_bases import Sweep, best, figure
from trainer.run.search.select_bases import select_bases as sweep_bases


def select_bases(  # noqa: PLR0913  (a command line has as many options as it has)
    *,
    output: Annotated[Path, typer.Option(help="The curve to write, NAME.json; with matplotlib also NAME.png.")],
    dataset: options.DatasetOfRecipe = None,
    recipe: options.RecipeName = None,
    images_per_class: options.ImagesPerClass = None,
    bases: Annotated[str | None, typer.Option(help="Such as 8,16,24; default: what fits the budget.")] = None,
    method: options.MethodName = None,
    override: options.Overrides = None,
    outer_steps: Annotated[int | None, typer.Option(help="Outer steps per number of bases.", min=0)] = None,
    minutes: Annotated[float | None, typer.Option(help="Minutes per number of bases.", min=0.01)] = None,
    validate_every: Annotated[int, typer.Option(help="Outer steps between validations.", min=1)] = 250,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the curve of another sweep.")] = False,
    image_size: Annotated[int | None, typer.Option(help="Resize the pictures of a folder to this size.", min=8)] = None,
    seed: int = 0,
    device: options.Device = "auto",
    threads: options.Threads = 0,
    ray: options.RayAddress = None,
) -> None:
    """Distill briefly with several numbers of bases and compare them on validation pictures.

    The same command continues a sweep that was stopped: points in OUTPUT are not run again. With --ray,
    all numbers are tried at the same time, each as a task of the cluster.
    """
    if output.suffix != ".json":
        raise ValueError(f"--output must end in .json, not {output.name!r}")
    tasks, where = commands.tasks_at(ray, device, threads)
    wish = recipe_choice.wish(recipe, dataset=dataset, method=method, size=Size(images_per_class), in_bytes=False)
    composed = compose(wish.method, [*(override or []), *given(outer__steps=outer_steps)])
    sweep = Sweep(
        load_dataset(wish.dataset, image_size=image_size, seed=seed),
        composed,
        images_per_class=1 if wish.size.images_per_class is None else wish.size.images_per_class,
        limits=commands.limits_of(composed, outer_steps=outer_steps, minutes=minutes, validate_every=validate_every),
        seed=seed,
        device=where,
    )
    points = sweep_bases(sweep, _counts(bases), output, commands.log_line, overwrite=overwrite, tasks=tasks)
    typer.echo(f"{output}: best with {best(points)['bases']} bases, of {len(points)} numbers tried")
    if importlib.util.find_spec("matplotlib") is not None:
        picture = output.with_suffix(".png")
        title = f"{sweep.dataset.name}, {sweep.images_per_class:g} image(s) per class, {composed.name}"
        write_atomically(picture, to_bytes(figure(points, title), "png"))
        typer.echo(str(picture))


def _counts(text: str | None) -> list[int] | None:
    """ "8,16" -> [8, 16]; None stays None. Raises ValueError for anything else."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"--bases must be comma-separated whole numbers, such as 8,16,24, not {text!r}")
    return [int(part) for part in parts]
