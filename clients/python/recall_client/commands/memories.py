"""Commands about the server's memories: labels, bundles, images, card."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from recall_client.commands import tables
from recall_client.commands.context import Context
from recall_client.commands.lookup import find_classifier
from recall_client.messages.queries import Labels, PicturesByName
from recall_client.pictures import class_folders

LabelArguments = Annotated[
    list[str] | None, typer.Argument(metavar="LABEL", help="A label, or bundle:label where several bundles know it.")
]
Shots = Annotated[
    Path | None, typer.Option("--shots", metavar="FOLDER", help="A folder with a folder of pictures per class.")
]
InBundle = Annotated[str | None, typer.Option("--bundle", metavar="BUNDLE", help="Use only this memory.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything drawn at random.", min=0)]


def labels(
    context: Context,
    *,
    bundle: InBundle = None,
    groups: Annotated[
        bool, typer.Option("--groups", help="Print groups and aliases with their labels instead.")
    ] = False,
) -> None:
    """Print the labels that the server knows, one per line."""
    if groups:
        named = context.client.groups() if bundle is None else dict(context.client.bundle(bundle).groups)
        context.show("\n".join(f"{name}: {', '.join(members)}" for name, members in named.items()), named)
        return
    known = context.client.labels() if bundle is None else list(context.client.bundle(bundle).labels)
    context.show("\n".join(known), known)


def bundles(context: Context) -> None:
    """List the memories that the server has loaded."""
    loaded = context.client.bundles()
    context.show(tables.bundles(loaded), loaded)


def images(
    context: Context,
    labels: LabelArguments = None,
    *,
    shots: Shots = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.png for a picture, FILE.npz for arrays.")] = Path(
        "recalled.png"
    ),
    per_label: Annotated[
        int | None, typer.Option(help="Images per label; by default the server's number.", min=1)
    ] = None,
    seed: Seed = None,
    bundle: InBundle = None,
) -> None:
    """Recall training images of labels, or with --shots of your own pictures.

    A .npz file holds images [N, channels, height, width], targets [N, k] and the k labels.
    """
    queries = chosen_classes(context, labels, shots)
    if output.suffix not in (".png", ".npz"):
        raise ValueError(f"--output must end in .png or .npz, not {output.name!r}")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}, the folder of --output, does not exist")
    recall = context.client.contact_sheet if output.suffix == ".png" else context.client.recall_arrays
    recall(queries, per_label=per_label, seed=seed, bundle=bundle).save(output)
    context.show(f"{output}", {"output": str(output)})


def card(
    context: Context, name: Annotated[str, typer.Argument(metavar="NAME", help="A classifier or a memory.")]
) -> None:
    """Print the card of a classifier or a memory.

    The card is Markdown and says what it is, how good it is, how it was made, and what not to use it for.
    """
    if context.names.get(name) is None and name in [bundle.name for bundle in context.client.bundles()]:
        text = context.client.bundle_card(name)
    else:
        text = find_classifier(context, name).card()
    context.show(text, {"name": name, "card": text})


def chosen_classes(context: Context, labels: list[str] | None, shots: Path | None) -> Labels | PicturesByName:
    """Return the labels or the pictures to use, and note files that are left out. Raises typer.BadParameter."""
    if bool(labels) == (shots is not None):
        raise typer.BadParameter("give either labels or a folder with --shots")
    if shots is None:
        return list(labels or [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = class_folders(shots)
    for warning in caught:
        context.note(str(warning.message))
    return found
