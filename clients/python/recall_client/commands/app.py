"""All commands as one program, and its exit status after an error, which is one sentence on stderr.

0    success
1    the server refused, the training failed, there is no such thing, or some pictures could not be read
2    wrong usage: a missing file, a number out of range, an unknown option
3    no answer, or refused for now: the same command may succeed later
130  Ctrl-C
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from recall_client._version import __version__
from recall_client.commands import classifiers, memories
from recall_client.commands.context import with_context
from recall_client.errors import NoAnswer, RecallError, StillTraining, TryAgain

app = typer.Typer(
    name="recall",
    help="Recall images from a memory-recall server, and train and use image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    memories.labels,
    memories.bundles,
    memories.images,
    classifiers.train,
    classifiers.wait,
    classifiers.predict,
    classifiers.explain,
    classifiers.classifiers,
    classifiers.download,
    memories.card,
    classifiers.cancel,
    classifiers.delete,
):
    app.command(command.__name__)(with_context(command))


def run() -> None:
    """Run the command line and exit."""
    _prepare_streams()
    try:
        app()
    except BrokenPipeError:  # the reader of our output has seen enough
        raise
    except (NoAnswer, TryAgain, StillTraining) as error:
        _fail(str(error), 3)
    except (RecallError, LookupError) as error:
        _fail(str(error.args[0]) if isinstance(error, LookupError) else str(error), 1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 2)
    except (ValueError, TypeError, ImportError) as error:
        _fail(str(error), 2)


def _prepare_streams() -> None:
    """Discard output to a closed stream, and escape characters that the terminal's encoding lacks."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(sentence: str, status: int) -> None:
    typer.echo(f"error: {' '.join(sentence.split())}", err=True)
    sys.exit(status)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass
