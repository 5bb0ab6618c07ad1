"""recall-trainer federate: one memory from the memories of many clients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer.output.places import check_name, check_place
from trainer.run.federated.clients import read_clients
from trainer.run.federated.federate import federate as merge_and_write
from trainer.run.federated.federate import weighting


def federate(
    *,
    folder: Annotated[Path, typer.Argument(help="A folder with a bundle of features from each client.")],
    output: Annotated[Path, typer.Option(help="The bundle to write, NAME.safetensors.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle at OUTPUT.")] = False,
    seed: int = 0,
) -> None:
    """Merge the memories of clients into one that knows all of their classes. No picture is needed.

    A label that several clients have is one class. Its accuracy is unknown until it is measured on pictures.
    """
    check_name(output)
    check_place(output, overwrite=overwrite)
    clients = read_clients(folder)
    received = sum(client.bundle.file_bytes or 0 for client in clients)
    typer.echo(f"{len(clients)} clients, {received:,} bytes received, {weighting(clients)}")
    made = merge_and_write(clients, output, seed=seed)
    typer.echo(f"{output}: {len(made.labels)} labels, {made.file_bytes:,} bytes, sha256 {made.sha256}")
