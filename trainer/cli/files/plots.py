"""recall-trainer plot: pictures of bundles and of their training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, get_args

import typer

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.io.atomic import write_atomically
from recall_server.core.reports.contact_sheet import contact_sheet
from recall_server.core.reports.inspection import has_similarity
from trainer.output.plots.curves import learning_curves
from trainer.output.plots.figures import KINDS, Kind, to_bytes
from trainer.output.plots.losses import losses
from trainer.output.plots.sheets import base_rows, recalled_rows
from trainer.output.plots.similarity import similarity_matrix
from trainer.run.monitor.metrics import read_metrics

MOST_LABELS = 200  # on one sheet


def plot(
    *,
    bundles: Annotated[list[Path], typer.Argument(help="Bundles; their learning curves share one picture.")],
    output: Annotated[Path, typer.Option(help="The folder to write pictures to.")],
    kind: Annotated[
        str, typer.Option("--format", help=f"Format of plots: {', '.join(KINDS)}; images are always PNGs.")
    ] = "png",
    per_label: Annotated[int, typer.Option(help="Recalled images per label.", min=1)] = 10,
    metrics: Annotated[
        list[Path] | None, typer.Option(help="A file of `distill --metrics`, for a plot of losses; repeatable.")
    ] = None,
) -> None:
    """Draw learning curves, bases, recalled images, and the similarity of labels."""
    if kind not in get_args(Kind):
        raise ValueError(f"unknown format {kind!r}; use {', '.join(KINDS)}")
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output must name a folder, but {output.name} is a file")
    names = [path.stem for path in bundles]
    if len(set(names)) < len(names):
        raise ValueError("two bundles have the same name, so their pictures would too; draw them one by one")
    drawing: Kind = kind  # type: ignore[assignment]  # checked above
    loaded = [MemoryBundle.load(path) for path in bundles]
    pictures: Iterable[tuple[str, bytes | None]] = draw(loaded, names, drawing, per_label)
    if metrics:
        measured = {path.name: read_metrics(path) for path in metrics}
        pictures = chain(pictures, [(f"losses.{kind}", to_bytes(losses(measured), drawing))])
    for name, data in pictures:
        if data is None:
            typer.echo(f"not drawn: {name}", err=True)
        else:
            write_atomically(output / name, data)
            typer.echo(str(output / name))


def draw(
    bundles: Sequence[MemoryBundle], names: Sequence[str], kind: Kind, per_label: int
) -> Iterator[tuple[str, bytes | None]]:
    """Yield (file name, bytes) for each picture, or (a sentence, None) for one that a bundle has no data for."""
    runs = {
        name: bundle.manifest.progress
        for name, bundle in zip(names, bundles, strict=True)
        if bundle.manifest.progress is not None and bundle.manifest.progress.validation
    }
    for name, bundle in zip(names, bundles, strict=True):
        if bases := base_rows(bundle):
            yield f"{name}-bases.png", contact_sheet(bases)
        else:
            yield f"{name} has no bases; it stores {bundle.manifest.memory.kind}", None
        yield f"{name}-recalled.png", contact_sheet(recalled_rows(bundle, labels=MOST_LABELS, images=per_label))
        if has_similarity(bundle):
            yield f"{name}-similarity.{kind}", to_bytes(similarity_matrix(bundle), kind)
        else:
            yield f"{name} has no coefficients of labels to compare", None
        if name not in runs:
            yield f"{name} has no learning curve; it was made without validation", None
    if runs:
        yield f"learning-curves.{kind}", to_bytes(learning_curves(runs), kind)
