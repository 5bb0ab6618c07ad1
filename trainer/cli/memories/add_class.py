"""recall-trainer add-class: further classes for a memory, from pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recall_server.core.bundle.bundle import MemoryBundle
from trainer.cli import commands
from trainer.output.places import check_name, check_place
from trainer.starts.add_classes import NewClass, add_classes, check_addable


def add_class(
    *,
    bundle: Annotated[Path, typer.Argument(help="A bundle of bases that is addressed by labels.")],
    folders: Annotated[list[Path], typer.Argument(help="One folder of pictures per new class.")],
    name: Annotated[
        list[str] | None, typer.Option(help="A class name, once per folder; default: the folders' names.")
    ] = None,
    further_bases: Annotated[int, typer.Option(help="Bases to add, if the budget has room for them.", min=0)] = 0,
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
    added = [NewClass.read(folder, before, each) for folder, each in zip(folders, names, strict=True)]
    for each in added:
        for sentence in each.unreadable:
            commands.log_line(f"left out: {sentence}")
    larger = add_classes(before, added, further_bases=further_bases, seed=seed, name=target.stem).save(target)
    typer.echo(f"{target}: {len(larger.labels)} labels, {larger.manifest.budget.numbers_stored} numbers")
    typer.echo(
        "Its accuracy is unknown. Distill with --start to renew the memory on a folder that has all its classes."
    )
