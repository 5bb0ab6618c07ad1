"""What every command has in common: the options that say whom to ask, and how to tell what was answered."""

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

from recall_client.client.blocking import RecallClient
from recall_client.commands.names import Names
from recall_client.connection.settings import BASE_URL, KEY_VARIABLE

P = ParamSpec("P")

_WIDE = 160  # columns of a table that goes into a file or a pipe, where there is no width to keep to

_SERVER = Annotated[str, typer.Option("--server", metavar="URL", envvar="RECALL_SERVER", help="The server to ask.")]
_KEY = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help=f"Better kept in {KEY_VARIABLE}, where nobody else can read it."),
]
_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]


@dataclass
class Asking:
    """One command under way: whom it asks, and where it says what came of it."""

    server: str
    api_key: str | None = field(repr=False)
    as_json: bool

    @cached_property
    def client(self) -> RecallClient:
        """Raises ValueError for an address or a key that cannot be."""
        return RecallClient(self.server, api_key=self.api_key)

    @cached_property
    def names(self) -> Names:
        """The names that were given to classifiers of this server."""
        return Names(self.server)

    def close(self) -> None:
        """Let go of the connections, if there are any."""
        if "client" in self.__dict__:
            self.client.close()

    def tell(self, shown: RenderableType, document: object) -> None:
        """Print the one for people or the other for machines."""
        if self.as_json:
            sys.stdout.write(json.dumps(_plain(document), ensure_ascii=False, indent=2) + "\n")
            return
        width = None if sys.stdout.isatty() else _WIDE
        console = Console(markup=False, highlight=False, emoji=False, width=width)
        console.print(shown, soft_wrap=isinstance(shown, str))

    def note(self, sentence: str) -> None:
        """Say something beside the answer."""
        if not self.as_json:
            typer.echo(sentence, err=True)


def asking(command: Callable[Concatenate[Asking, P], None]) -> Callable[..., None]:
    """Give a command the options that all of them have, and hand it an `Asking` made of them."""

    def run(server: str, api_key: str | None, as_json: bool, **arguments: Any) -> None:
        asked = Asking(server, api_key, as_json)
        try:
            command(asked, **arguments)  # type: ignore[call-arg]
        finally:
            asked.close()

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
