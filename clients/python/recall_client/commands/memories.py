"""Commands about what the server remembers: labels, bundles, images, card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recall_client.commands import tables
from recall_client.commands.asking import Asking
from recall_client.commands.found import found
from recall_client.messages.queries import Queries
from recall_client.pictures import class_folders

Labels = Annotated[list[str] | None, typer.Argument(metavar="LABEL", help="bundle:label where two bundles know it.")]
Shots = Annotated[
    Path | None, typer.Option("--shots", metavar="FOLDER", help="A folder of class folders with a few pictures each.")
]
InBundle = Annotated[str | None, typer.Option("--bundle", metavar="BUNDLE", help="The only memory to ask.")]
Seed = Annotated[int | None, typer.Option(help="Draw with this seed.", min=0)]


def labels(
    asking: Asking,
    *,
    bundle: InBundle = None,
    groups: Annotated[bool, typer.Option("--groups", help="Groups and aliases, and what they stand for.")] = False,
) -> None:
    """Print the labels that can be asked for by name, one a line."""
    if groups:
        named = asking.client.groups() if bundle is None else dict(asking.client.bundle(bundle).groups)
        asking.tell("\n".join(f"{name}: {', '.join(members)}" for name, members in named.items()), named)
        return
    known = asking.client.labels() if bundle is None else list(asking.client.bundle(bundle).labels)
    asking.tell("\n".join(known), known)


def bundles(asking: Asking) -> None:
    """List the memories that the server has loaded."""
    loaded = asking.client.bundles()
    asking.tell(tables.bundles(loaded), loaded)


def images(
    asking: Asking,
    labels: Labels = None,
    *,
    shots: Shots = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="NAME.png for a picture, NAME.npz for the numbers.")
    ] = Path("recalled.png"),
    per_label: Annotated[int | None, typer.Option(help="Images of each; default: the server's.", min=1)] = None,
    seed: Seed = None,
    bundle: InBundle = None,
) -> None:
    """Recall training images.

    Of labels, or with --shots of what your own pictures look like to the memory. A .npz file holds images
    [N, channels, height, width], targets [N, k] and the k labels.
    """
    asked = chosen(labels, shots)
    options = {"per_label": per_label, "seed": seed, "bundle": bundle}
    if output.suffix == ".png":
        asking.client.contact_sheet(asked, **options).save(output)  # type: ignore[arg-type]
    elif output.suffix == ".npz":
        asking.client.recall_arrays(asked, **options).save(output)  # type: ignore[arg-type]
    else:
        raise ValueError(f"--output must end in .png or .npz, not {output.name!r}")
    asking.tell(f"{output}", {"output": str(output)})


def card(
    asking: Asking, name: Annotated[str, typer.Argument(metavar="NAME", help="A classifier or a bundle.")]
) -> None:
    """Print the card of a classifier or a memory.

    Markdown that says what it is, how good, how it was made, and what not to use it for.
    """
    if asking.names.get(name) is None and name in [bundle.name for bundle in asking.client.bundles()]:
        text = asking.client.bundle_card(name)
    else:
        text = found(asking, name).card()
    asking.tell(text, {"name": name, "card": text})


def chosen(labels: list[str] | None, shots: Path | None) -> Queries:
    """What to recall or to train on. Raises typer.BadParameter unless it is exactly one of the two."""
    if bool(labels) == (shots is not None):
        raise typer.BadParameter("name labels, or a folder with --shots: one of the two")
    return class_folders(shots) if shots is not None else list(labels or [])
