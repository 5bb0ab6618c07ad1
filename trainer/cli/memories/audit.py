"""recall-trainer audit: what a memory reveals of the pictures that it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.encoders.query_encoder import QueryEncoder, load_encoder
from recall_server.errors import UnsupportedQuery
from trainer.cli import commands
from trainer.cli.options import Device, JsonFile, Threads
from trainer.data.features import EncodingProgress, Featuriser, cache_folder
from trainer.data.progress_line import Countdown
from trainer.evaluation.audit.attack import FALSE_POSITIVES, Estimate
from trainer.evaluation.audit.pictures import AuditPictures, check_pictures, read_pictures
from trainer.evaluation.audit.shown import Attacked
from trainer.run.audit.audit import Audit
from trainer.run.audit.audit import audit as attack_memory
from trainer.run.audit.shadows import FeatureShadows, MakeShadow, shadows_of_pixels

SOURCE = "a folder of class folders or a known data set, or one of its splits (NAME:train)"


def audit(
    *,
    bundle: Annotated[Path, typer.Argument(help="A bundle that is addressed by labels.")],
    members: Annotated[str, typer.Option(help=f"Pictures that the memory was made from: {SOURCE}.")],
    non_members: Annotated[str, typer.Option(help="Other pictures of the same classes, in the same forms.")],
    shadows: Annotated[
        int, typer.Option(help="Shadow memories, an even number; 0: the attack compares no other memories.", min=0)
    ] = 8,
    outer_steps: Annotated[
        int | None, typer.Option(help="Most outer steps of a shadow memory; default: the bundle's own.", min=0)
    ] = None,
    json_file: JsonFile = None,
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Attack a memory: can one tell the pictures that it was made from from others?

    Shadow memories are made by the bundle's own method from random halves of the pictures.
    """
    loaded, where = MemoryBundle.load(bundle), commands.pick_device(device)
    if loaded.manifest.queries != "labels":
        raise UnsupportedQuery(f"{bundle.name} is addressed by pictures; only memories with labels can be audited")
    encoder = _encoder(bundle, loaded)
    make_shadow: MakeShadow | None = None
    if shadows and encoder is not None:
        make_shadow = FeatureShadows.of(loaded, encoder)
    elif shadows:
        make_shadow = shadows_of_pixels(loaded, outer_steps=outer_steps, device=where)
    featuriser = None if encoder is None else Featuriser(encoder, cache=cache_folder(), report=EncodingProgress())
    pictures = AuditPictures(*(read_pictures(source, loaded, featuriser) for source in (members, non_members)))
    check_pictures(pictures, loaded, halved=bool(shadows))
    progress = Countdown("shadow memory", shadows)
    attacked = Attacked(loaded.memory, loaded.preprocessing, loaded.manifest.retraining)
    how = {"shadows": shadows, "seed": seed}
    found = attack_memory(attacked, loaded.labels, pictures, make_shadow, **how, device=where, made=progress)
    typer.echo("\n".join(report(found)))
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(found), indent=1) + "\n")


def report(found: Audit) -> list[str]:
    """The figures in lines."""
    how = f"likelihood ratios by {found.shadows} shadow memories" if found.shadows else "thresholds, no shadow memories"
    lines = [
        f"{found.members} members, {found.others} non-members; {how}",
        f"{'attack by':<10}  {'AUROC':<22}  {'advantage':<22}  true positives at {FALSE_POSITIVES:.0%} false ones",
    ]
    for name, attack in found.attacks.items():
        lines.append(f"{name:<10}  " + "  ".join(f"{_said(figure):<22}" for figure in attack).rstrip())
    near = found.neighbours
    return [
        *lines,
        f"guessing has an AUROC of 0.500, and an advantage of up to {found.chance:.3f} with so many pictures",
        f"nearest pictures: {_said(near.nearer)} of {near.items} recalled items are nearer to a member than to a "
        f"non-member, by chance 0.500; median distances {near.to_members:.4g} and {near.to_others:.4g}",
        "in brackets: 95 % intervals, by the bootstrap over pictures, and Wilson's for nearest pictures",
    ]


def as_json(found: Audit) -> dict[str, object]:
    """All figures, each with the ends of its interval."""
    attacks = {
        name: {figure: value._asdict() for figure, value in attack._asdict().items()}
        for name, attack in found.attacks.items()
    }
    near = found.neighbours._asdict() | {"nearer": found.neighbours.nearer._asdict()}
    return found._asdict() | {"attacks": attacks, "neighbours": near, "strongest": found.strongest}


def _said(figure: Estimate) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _encoder(path: Path, bundle: MemoryBundle) -> QueryEncoder | None:
    """The encoder of a memory of features. Raises InvalidBundle where it is missing or another one."""
    reference = bundle.manifest.feature_encoder
    if reference is None:
        return None
    file, shape = encoder_folder(path) / reference.file, bundle.manifest.image.shape
    return load_encoder(file, reference.sha256, image_shape=shape, threads=torch.get_num_threads())
