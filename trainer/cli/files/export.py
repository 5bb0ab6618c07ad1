"""recall-trainer export: recalled images in the file formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.errors import InvalidRequest
from trainer.cli.options import parse_numbers
from trainer.output.export.folder import write_folder
from trainer.output.export.formats import FORMATS
from trainer.output.export.images import RecalledImages, recall_images
from trainer.output.export.normalisation import Normalisation, choose

FormatOption = Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")]
ValueOption = Annotated[
    str | None, typer.Option(help="One number per channel, such as 0.49,0.48,0.45; default: the tool's own.")
]


def export(
    *,
    bundle: Annotated[Path, typer.Argument(help="A bundle that is addressed by labels.")],
    kind: FormatOption,
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    per_label: Annotated[
        int | None, typer.Option(help="Images per label; default: all that the memory recalls.", min=1)
    ] = None,
    mean: ValueOption = None,
    deviation: ValueOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing export at OUTPUT.")] = False,
) -> None:
    """Write recalled images in the format of another tool (DC, MTT, IDC, DD-Ranking) or as PNGs."""
    recalled, count = export_bundle(
        bundle,
        kind,
        output,
        per_label=per_label,
        mean=parse_numbers("--mean", mean),
        deviation=parse_numbers("--deviation", deviation),
        overwrite=overwrite,
    )
    typer.echo(f"{output}: {len(recalled.pixels)} images, {recalled.per_label} of each label, in {count} files")
    if kind == "png" and recalled.outside > 0:
        typer.echo(f"{100 * recalled.outside:.1f} % of the values were outside 0..1 and are clipped", err=True)


def export_bundle(
    path: Path,
    kind: str,
    output: Path,
    *,
    per_label: int | None = None,
    mean: tuple[float, ...] | None = None,
    deviation: tuple[float, ...] | None = None,
    overwrite: bool = False,
) -> tuple[RecalledImages, int]:
    """Write the folder, and return the recalled images and the number of files.

    Raises InvalidRequest for an unknown format, ValueError for a mean that the format does not use, and the errors of
    `recall_images` and `write_folder`.
    """
    if kind not in FORMATS:
        raise InvalidRequest(f"unknown format {kind!r}; use {', '.join(FORMATS)}", parameter="format")
    form, bundle = FORMATS[kind], MemoryBundle.load(path)
    if not form.normalised and (mean is not None or deviation is not None):
        raise ValueError(f"{kind} stores images in pixel space, which its readers normalise; leave --mean out")
    normalisation = choose(bundle, mean, deviation) if form.normalised else None
    recalled = recall_images(bundle, per_label)
    dataset = bundle.manifest.provenance.dataset
    write_folder(
        output,
        lambda folder: form.write(folder, recalled, normalisation, dataset),
        describe(bundle, kind, recalled, normalisation),
        overwrite=overwrite,
    )
    return recalled, sum(path.is_file() for path in output.rglob("*"))


def describe(
    bundle: MemoryBundle, kind: str, recalled: RecalledImages, normalisation: Normalisation | None
) -> dict[str, Any]:
    """The content of `export.json`: where the images come from and how they were processed."""
    manifest = bundle.manifest
    return {
        "bundle": {"name": manifest.name, "sha256": bundle.sha256},
        "dataset": manifest.provenance.dataset,
        "dataset_licence": manifest.provenance.dataset_licence,
        "format": kind,
        "read_by": FORMATS[kind].reads,
        "labels": list(recalled.labels),
        "images_per_label": recalled.per_label,
        "image_shape": list(manifest.image.shape),
        "space": "pixels" if normalisation is None else "normalised",
        "mean": None if normalisation is None else list(normalisation.mean),
        "deviation": None if normalisation is None else list(normalisation.deviation),
        "whitened": False,
        "share_outside_0_to_1": round(recalled.outside, 6),
        "numbers_stored": manifest.budget.numbers_stored,
        "images_per_class_of_as_many_numbers": manifest.budget.images_per_class,
        # The exported files cannot store these: they have one label per image.
        "targets": _stored_targets(bundle),
        "retraining": manifest.retraining.model_dump(mode="json"),
    }


def _stored_targets(bundle: MemoryBundle) -> list[list[list[float]]] | None:
    """Targets [k][r or 1][k]; None if they are hard."""
    if bundle.memory.targets.form == "hard":
        return None
    targets: list[list[list[float]]] = bundle.memory.targets.among(bundle.label_queries(bundle.labels)).tolist()
    return targets
