"""recall-trainer methods: list the named methods, or print one of them."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer.cli import options
from trainer.methods.named import METHODS, compose, summary
from trainer.methods.specs.spec import flattened
from trainer.run.search.feature_memory import CITATIONS


def methods(
    name: Annotated[str | None, typer.Argument(help="A method, or a file NAME.py that defines one.")] = None,
    override: options.Overrides = None,
) -> None:
    """List the methods, or print all fields of one as --set takes them."""
    if name is None:
        width = max(map(len, METHODS))
        for each in METHODS:
            typer.echo(f"{each:<{width}}  {summary(each)}")
        for each, citation in CITATIONS.items():
            typer.echo(f"{each:<{width}}  With --encoder: {citation}.")
        return
    method = compose(name, override or [])
    typer.echo(f"{method.name}: {method.citation}")
    for field, value in flattened(method, lambda field: field in {"name", "citation"}).items():
        typer.echo(f"  {field}={value}")
