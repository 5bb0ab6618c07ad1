"""What all commands share: the options of the connection, and the ways to print a result."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer
from pydantic import BaseModel
from rich.console import Console, RenderableType

from recall_client.client import RecallClient
from recall_client.commands.names import Names
from recall_client.connection.settings import BASE_URL, KEY_VARIABLE

P = ParamSpec("P")

_WIDTH = 160  # columns of a table in a file or a pipe

_SERVER = Annotated[str, typer.Option("--server", metavar="URL", envvar="RECALL_SERVER", help="Address of the server.")]
_KEY = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help=f"API key. {KEY_VARIABLE} is safer: other users cannot see it."),
]
_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@dataclass
class Context:
    """The running command: its client, its names, its output."""

    server: str
    api_key: str | None = field(repr=False)
    as_json: bool

    @cached_property
    def client(self) -> RecallClient:
        """A client of the chosen server. Raises ValueError for an impossible address or key."""
        return RecallClient(self.server, api_key=self.api_key)

    @cached_property
    def names(self) -> Names:
        """The names that were given to classifiers of this server."""
        return Names(self.server)

    def close(self) -> None:
        """Close the client, if one was used."""
        if "client" in self.__dict__:
            self.client.close()

    def show(self, shown: RenderableType, document: object) -> None:
        """Print `shown`, or `document` as JSON with --json."""
        if self.as_json:
            escape = "utf" not in (sys.stdout.encoding or "").lower()
            sys.stdout.write(json.dumps(_plain(document), ensure_ascii=escape, indent=2) + "\n")
            return
        width = None if sys.stdout.isatty() else _WIDTH
        console = Console(markup=False, highlight=False, emoji=False, width=width)
        console.print(shown, soft_wrap=isinstance(shown, str))

    def note(self, sentence: str) -> None:
        """Print a remark to stderr, unless with --json."""
        if not self.as_json:
            typer.echo(sentence, err=True)


def with_context(command: Callable[Concatenate[Context, P], None]) -> Callable[..., None]:
    """Return `command` with the options --server, --api-key and --json in place of its context."""

    def run(server: str, api_key: str | None, as_json: bool, **arguments: Any) -> None:
        context = Context(server, api_key, as_json)
        try:
            command(context, **arguments)  # type: ignore[call-arg]
        finally:
            context.close()

    hints = get_type_hints(command, include_extras=True)
    _, *own = inspect.signature(command).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("server", keyword, default=BASE_URL, annotation=_SERVER),
        inspect.Parameter("api_key", keyword, default=None, annotation=_KEY),
        inspect.Parameter("as_json", keyword, default=False, annotation=_JSON),
    ]
    parameters = [each.replace(annotation=hints[each.name]) for each in own] + shared
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    return run


def _plain(document: object) -> Any:
    if isinstance(document, BaseModel):
        return document.model_dump(mode="json")
    if isinstance(document, list | tuple):
        return [_plain(each) for each in document]
    if isinstance(document, dict):
        return {name: _plain(each) for name, each in document.items()}
    return document
