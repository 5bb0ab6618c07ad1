"""recall-trainer add-class: further classes for a memory, from pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.encoders.query_encoder import load_encoder
from recall_server.core.io.atomic import write_atomically
from trainer.cli import commands
from trainer.data.features import EncodingProgress, Featuriser
from trainer.output.places import check_name, check_place
from trainer.starts.add_classes import Featurise, NewClass, add_classes, check_addable


def add_class(
    *,
    bundle: Annotated[
        Path, typer.Argument(help="A bundle of bases addressed by labels, or of features from `quickstart`.")
    ],
    folders: Annotated[list[Path], typer.Argument(help="One folder of pictures per new class.")],
    name: Annotated[
        list[str] | None, typer.Option(help="A class name, once per folder; default: the folders' names.")
    ] = None,
    further_bases: Annotated[
        int,
        typer.Option(
            help="Bases to add, if the budget has room for them; default: none in pixels, one per class in features.",
            min=0,
        ),
    ] = 0,
    output: Annotated[Path | None, typer.Option(help="The bundle to write; default: BUNDLE.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle at OUTPUT.")] = False,
    seed: int = 0,
) -> None:
    """Add classes to a memory from pictures, without its original data. The existing classes do not change.

    A fifth of the pictures is not used, so that the new classes can be tested on them.
    """
    names = name or [folder.resolve().name for folder in folders]
    if len(names) != len(folders):
        raise ValueError(f"{len(folders)} folders need {len(folders)} times --name, not {len(names)}")
    target = output or bundle
    before = MemoryBundle.load(bundle)
    check_name(target)
    check_place(target, overwrite=overwrite)
    check_addable(before, names)
    featurise = _featuriser(bundle, before, target)
    added = [NewClass.read(folder, before, each) for folder, each in zip(folders, names, strict=True)]
    for each in added:
        for sentence in each.unreadable:
            commands.log_line(f"left out: {sentence}")
    larger = add_classes(
        before, added, further_bases=further_bases, seed=seed, name=target.stem, featurise=featurise
    ).save(target)
    typer.echo(f"{target}: {len(larger.labels)} labels, {larger.manifest.budget.numbers_stored} numbers")
    left_out = "The recorded accuracy does not hold any more and was left out" if before.manifest.accuracy else ""
    typer.echo(f"{left_out or 'Its accuracy is unknown'}. {_renewal(larger)}")


def _featuriser(bundle: Path, before: MemoryBundle, target: Path) -> Featurise:
    """The encoder of a memory of features, which is also put beside the new bundle; nothing for one of pixels.

    Raises InvalidBundle for an encoder that is missing or another than the bundle's.
    """
    reference = before.manifest.feature_encoder
    if reference is None:
        return lambda images: images
    path, copy = (encoder_folder(each) / reference.file for each in (bundle, target))
    found = load_encoder(
        path, reference.sha256, image_shape=before.manifest.image.shape, threads=torch.get_num_threads()
    )
    if not copy.is_file():
        write_atomically(copy, found.model)
    return Featuriser(found, report=EncodingProgress())


def _renewal(bundle: MemoryBundle) -> str:
    """How to make a memory whose accuracy can be measured."""
    if bundle.manifest.space == "features":
        return "To measure it, make it anew with quickstart from a folder that has all its classes."
    return "Distill with --start to renew the memory on a folder that has all its classes."
