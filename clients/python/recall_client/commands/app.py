"""The commands put together, and what becomes of errors: one sentence on stderr and a status.

0    done
1    the server refused, the training failed, or there is no such thing
2    what was typed cannot be: a missing file, a number out of range, an option that does not exist
3    no answer, or not at the moment: the same command may work later
130  Ctrl-C
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from recall_client._version import __version__
from recall_client.commands import classifiers, memories
from recall_client.commands.asking import asking
from recall_client.errors import NoAnswer, RecallError, StillTraining, TryAgain

app = typer.Typer(
    name="recall",
    help="Recall images from a memory-recall server, train classifiers in seconds, and use them.",
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
    classifiers.classifiers,
    classifiers.download,
    memories.card,
    classifiers.cancel,
    classifiers.delete,
):
    app.command(command.__name__)(asking(command))


def run() -> None:
    """Run the command that was typed."""
    try:
        app()
    except BrokenPipeError:  # whoever read what we print has seen enough
        raise
    except (NoAnswer, TryAgain, StillTraining) as error:
        _fail(str(error), 3)
    except (RecallError, LookupError) as error:
        _fail(str(error.args[0]) if isinstance(error, LookupError) else str(error), 1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 2)
    except (ValueError, TypeError, ImportError) as error:
        _fail(str(error), 2)


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
