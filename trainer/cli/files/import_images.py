"""recall-trainer import: a bundle of images that were distilled, or selected, by other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import torch
import typer

from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import USUAL_RATES, Loss, Retraining
from trainer.cli import commands
from trainer.cli.options import parse_numbers
from trainer.data.datasets import load_dataset
from trainer.data.imported.files import read_labelled
from trainer.data.imported.grouping import Grouped, Meaning, grouped
from trainer.data.imported.import_bundle import ImportRequest, import_bundle
from trainer.methods.overrides import overridden
from trainer.output.places import check_name, check_place

MEANINGS: tuple[Meaning, ...] = get_args(Meaning)
LARGEST_MINIBATCH = 10  # rows of each class in a step, unless the schedule is set otherwise


def import_images(
    *,
    source: Annotated[Path, typer.Argument(help="A folder of class folders, or a .npz or .safetensors file.")],
    output: Annotated[Path, typer.Option(help="The bundle to write, NAME.safetensors.")],
    dataset: Annotated[
        str | None, typer.Option(help="The real pictures that the images stand for, so that `evaluate` can test.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="The names of the classes in their order, by commas.")] = None,
    per_class: Annotated[int | None, typer.Option(help="Take the first N images of each class.", min=1)] = None,
    labels: Annotated[
        str | None, typer.Option(help=f"What rows of numbers are: {', '.join(MEANINGS)}; default: probabilities.")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="By which the images are normalised, one per channel.")] = None,
    deviation: Annotated[str | None, typer.Option(help="By which they were divided, one per channel.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Resize a folder's pictures to this size.", min=8)] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="field=value of the schedule that trains classifiers; repeatable.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle at OUTPUT.")] = False,
) -> None:
    """Make a bundle of images with hard or soft labels from another tool, to serve and to evaluate them."""
    check_name(output)
    check_place(output, overwrite=overwrite)
    meaning = next((each for each in MEANINGS if each == labels), None)
    if labels is not None and meaning is None:
        raise ValueError(f"--labels must be {', '.join(MEANINGS)}, not {labels!r}")
    normalisation = _normalisation(mean, deviation)
    read = read_labelled(source, image_size=image_size)
    data = None if dataset is None else load_dataset(dataset, image_size=image_size)
    named = tuple(classes.split(",")) if classes else None
    if named is None and read.classes is None and data is not None:
        named = data.classes
    found = grouped(read, classes=named, per_class=per_class, meaning=meaning)
    schedule = overridden(_schedule(found), override or [])
    request = ImportRequest(read, found, schedule, output.resolve(), data, normalisation)
    commands.say_written(output, import_bundle(request))


def _schedule(found: Grouped) -> Retraining:
    """The schedule of selections, which is used if the images have no known schedule."""
    loss: Loss = "squared_error" if found.targets.form == "unbounded" else "cross_entropy"
    return Retraining(
        network=NetworkSpec(),
        steps=300,
        learning_rate=USUAL_RATES[loss],
        rows_per_class=min(LARGEST_MINIBATCH, found.items.shape[1]),
        decay="cosine",
        loss=loss,
    )


def _normalisation(mean: str | None, deviation: str | None) -> Standardise | None:
    """Raises ValueError if only one of the two is given, and for invalid numbers."""
    means, deviations = parse_numbers("--mean", mean), parse_numbers("--deviation", deviation)
    if (means is None) != (deviations is None):
        raise ValueError("--mean and --deviation must be given together")
    if means is None or deviations is None:
        return None
    return Standardise(torch.tensor(means), torch.tensor(deviations))
