"""recall-trainer: distill data sets into memory bundles, evaluate and inspect them.

recall-trainer quickstart FOLDER
recall-trainer distill --dataset fashion-mnist --bases 16 --output artifacts/bundles/NAME.safetensors
recall-trainer evaluate artifacts/bundles/NAME.safetensors --dataset fashion-mnist
recall-trainer grid --datasets fashion-mnist --methods window,principal --output FOLDER
recall-trainer record-experts --dataset fashion-mnist --method mtt-small
recall-trainer rank artifacts/bundles/NAME.safetensors --dataset fashion-mnist
recall-trainer audit artifacts/bundles/NAME.safetensors --members NAME:train --non-members NAME:test
recall-trainer inspect artifacts/bundles/NAME.safetensors --picture NAME.png
recall-trainer export artifacts/bundles/NAME.safetensors --format mtt --output FOLDER
recall-trainer import FOLDER --output artifacts/bundles/NAME.safetensors
recall-trainer plot artifacts/bundles/NAME.safetensors --output FOLDER
recall-trainer federate FOLDER_OF_BUNDLES --output artifacts/bundles/NAME.safetensors
recall-trainer stream FOLDER_OF_TASKS --bundles artifacts/bundles
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import first_fault
from recall_server.core.training.allocator import keep_freed_memory
from recall_server.errors import RecallError
from trainer.cli import commands, options
from trainer.cli.encoder import encoder
from trainer.cli.files.export import export
from trainer.cli.files.import_images import import_images
from trainer.cli.files.plots import plot
from trainer.cli.grid.command import grid
from trainer.cli.memories import features, private
from trainer.cli.memories.add_class import add_class
from trainer.cli.memories.audit import audit
from trainer.cli.memories.federate import federate
from trainer.cli.memories.quickstart import quickstart
from trainer.cli.memories.rank import rank
from trainer.cli.methods import methods
from trainer.cli.options import Device, Threads
from trainer.cli.record_experts import record_experts
from trainer.cli.select_bases import select_bases
from trainer.cli.streams import stream
from trainer.data.datasets import LICENCES
from trainer.evaluation.protocol import Protocol
from trainer.evaluation.query_novelty import fit_novelty_scorer
from trainer.evaluation.report import evaluate_bundle, print_manifest, write_card, write_picture
from trainer.methods import recipe_choice
from trainer.methods.overrides import given
from trainer.methods.specs.budget import Size
from trainer.run.distill import Interrupted
from trainer.run.monitor.monitors import Monitors
from trainer.run.search import private_pixels
from trainer.run.search.byte_budget import ByteBudget
from trainer.run.setup.request import DistillRequest, check_output
from trainer.run.setup.starting_point import StartingPoint

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Dataset = Annotated[str, typer.Option(help="A known name, a folder of class folders, or a folder of npz files.")]
ImageSize = Annotated[int | None, typer.Option(help="Resize the pictures of a folder to this size.", min=8, max=256)]


@app.command()
def distill(  # noqa: PLR0913  (a command line has as many options as it has)
    *,
    dataset: options.DatasetOfRecipe = None,
    output: Annotated[Path, typer.Option(help="The bundle to write, NAME.safetensors.")],
    recipe: options.RecipeName = None,
    images_per_class: options.ImagesPerClass = None,
    file_bytes: options.FileBytes = None,
    bases: options.Bases = None,
    rows: options.Rows = None,
    storage: options.Stored = None,
    method: options.MethodName = None,
    start: options.Start = None,
    override: options.Overrides = None,
    outer_steps: options.OuterSteps = None,
    minutes: options.Minutes = None,
    validate_every: Annotated[int, typer.Option(help="Outer steps between validations.", min=1)] = 250,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint beside OUTPUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle at OUTPUT.")] = False,
    metrics: options.Metrics = None,
    tensorboard: options.TensorBoard = None,
    previews: options.Previews = None,
    image_size: ImageSize = None,
    encoder: features.EncoderName = None,
    encoder_size: features.EncoderSize = None,
    anchors: features.AnchorsFile = None,
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Distill a data set into a bundle, which is written at once and replaced whenever it gets better.

    Ctrl-C keeps the best bundle so far and a checkpoint; --resume continues from it.
    """
    begun, where = time.monotonic(), commands.pick_device(device)
    features.check_anchors(anchors, encoder)
    if encoder is not None or method == private_pixels.METHOD:
        other = private if encoder is None else features
        return commands.say_written(output, other.distill_by_options(locals()))
    watch = Monitors(metrics, tensorboard, previews).checked(resume=resume, overwrite=overwrite)
    begin = StartingPoint.read(start)
    check_output(output.resolve(), begin, resume=resume, overwrite=overwrite)
    size, in_bytes = Size(images_per_class, bases, rows), file_bytes is not None
    wish = recipe_choice.wish(recipe, dataset=dataset, method=method, size=size, in_bytes=in_bytes)
    composed = begin.method(wish.method, [*(override or []), *given(outer__steps=outer_steps, memory__storage=storage)])
    data, moments = commands.read_data(wish.dataset, composed, image_size=image_size, seed=seed, start=begin.bundle)
    limit = None if file_bytes is None else ByteBudget(file_bytes, output.stem, where, data, composed)
    choices = commands.choose_budgets(data, composed, begin.bundle, wish.size, limit)
    request = DistillRequest(
        dataset=data,
        method=composed,
        budget=choices[0],
        output=output.resolve(),
        seed=seed,
        device=where,
        limits=commands.limits_of(composed, outer_steps, minutes, validate_every, begun),
        resume=resume,
        begin=begin,
        overwrite=overwrite,
    )
    commands.say_written(output, commands.make(request, choices, moments, watch))


@app.command()
def evaluate(  # noqa: PLR0913
    *,
    bundle: Annotated[Path, typer.Argument(help="The bundle to evaluate on the test pictures of its data set.")],
    dataset: Dataset,
    runs: Annotated[
        int, typer.Option(help="Fresh networks, or few-shot episodes if pictures address the bundle.", min=1)
    ] = 5,
    network: options.Network = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="paper (300 epochs at 0.01), common (300 steps) or bundle (its own schedule); default: paper for "
            "known data sets, bundle for your own."
        ),
    ] = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    augmentation: options.Augmentation = None,
    record: options.Record = False,
    json_file: options.JsonFile = None,
    image_size: ImageSize = None,
    robust: options.Robust = None,
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = 0,
    ray: options.RayAddress = None,
) -> None:
    """Train fresh networks on recalled images, and print their test accuracy beside baselines.

    With --ray, all networks are trained at the same time, each as a task of the cluster.
    """
    how = Protocol(protocol or ("paper" if dataset in LICENCES else "bundle"), epochs, steps, augmentation)
    made = MemoryBundle.load(bundle)
    if made.manifest.space == "features":
        return features.evaluate_by_options(locals())
    if made.manifest.queries == "images":
        refused = {
            "--ray": (ray, "its episodes are trained together"),
            "--robust": (robust, "robustness is measured where labels address a memory"),
        }
        for option, (given, reason) in refused.items():
            if given is not None:
                raise ValueError(f"{bundle.name} is addressed by pictures; {reason}: leave {option} out")
    tasks, where = commands.tasks_at(ray, device, threads)
    evaluate_bundle(
        bundle,
        commands.data_for(made, dataset, image_size=image_size),
        seeds=range(seed, seed + runs),
        network=network,
        protocol=how,
        record=record,
        device=where,
        compute=tasks.map,
        json_file=json_file,
        robust=robust,
    )


@app.command()
def inspect(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    picture: Annotated[Path | None, typer.Option(help="A PNG to write, of its bases and recalled images.")] = None,
) -> None:
    """Print a bundle's manifest, and optionally draw its bases and recalled images."""
    print_manifest(bundle)
    if picture is not None:
        write_picture(bundle, picture)


@app.command()
def card(bundle: Annotated[Path, typer.Argument(help="A bundle.")]) -> None:
    """Write a bundle's card to NAME.md beside it: its classes, its accuracy, and what not to use it for."""
    typer.echo(f"{write_card(bundle)}: the card of {bundle.name}")


@app.command()
def recipes(
    prefix: Annotated[str, typer.Argument(help="table1, table7/mnist, or a full name; default: all.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print all of their settings as JSON.")] = False,
) -> None:
    """List the paper's experiments by name, with their settings and the accuracy that the paper reports."""
    chosen = recipe_choice.starting_with(prefix)
    lines = [json.dumps(recipe_choice.as_json(chosen), indent=1)] if as_json else recipe_choice.lines(chosen)
    typer.echo("\n".join(lines))


@app.command()
def familiarity(
    bundle: Annotated[Path, typer.Argument(help="A bundle that is addressed by pictures.")],
    dataset: Dataset,
    image_size: ImageSize = None,
) -> None:
    """Fit the novelty scorer of a memory, with which a server reports how familiar pictures are to it."""
    data = commands.data_for(MemoryBundle.load(bundle), dataset, image_size=image_size)
    typer.echo(f"{fit_novelty_scorer(bundle, data)}: the novelty scorer of {bundle.name}")


app.command()(add_class)
app.command()(audit)
app.command()(export)
app.command()(federate)
app.command()(grid)
app.command("import")(import_images)
app.command()(methods)
app.command()(plot)
app.command()(quickstart)
app.command()(rank)
app.command()(record_experts)
app.command()(select_bases)
app.command()(stream)
app.add_typer(encoder, name="encoder")


def main() -> None:
    """The console script. Errors that the caller can fix end with one sentence and exit status 2."""
    keep_freed_memory()
    commands.warn_once()
    try:
        app(standalone_mode=True)
    except Interrupted as stop:
        kept = "stopped; the best bundle so far and the checkpoint are kept, continue with --resume"
        typer.echo(str(stop) or kept, err=True)
        sys.exit(130)
    except ValidationError as error:
        typer.echo(f"error: {first_fault(error)}", err=True)
        sys.exit(2)
    except (RecallError, ValueError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
