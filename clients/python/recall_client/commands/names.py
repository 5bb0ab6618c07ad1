"""The names that people give to their classifiers, kept on this machine: the server knows ids only.

SQLite, because two commands may write at the same time and either may be killed.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import typer

_ID = re.compile(r"[0-9a-f]{32}")
_PATIENCE = 10.0  # seconds for another command to finish writing
_TABLE = "CREATE TABLE IF NOT EXISTS names (server TEXT, name TEXT, id TEXT NOT NULL, PRIMARY KEY (server, name))"


class Names:
    """name -> id, for the classifiers of one server. Every method raises OSError where the file cannot be used."""

    def __init__(self, server: str, path: Path | None = None) -> None:
        self.path = path or Path(typer.get_app_dir("recall")) / "names.sqlite"
        self._server = server.strip().rstrip("/")

    def get(self, name: str) -> str | None:
        """The id behind a name; None for a name that was not given."""
        if not self.path.exists():
            return None
        with self._table() as table:
            found = table.execute("SELECT id FROM names WHERE server = ? AND name = ?", (self._server, name)).fetchone()
        return None if found is None else str(found[0])

    def by_id(self) -> dict[str, list[str]]:
        """All names of each id, in order."""
        names: dict[str, list[str]] = {}
        if self.path.exists():
            with self._table() as table:
                rows = table.execute("SELECT id, name FROM names WHERE server = ? ORDER BY name", (self._server,))
                for identifier, name in rows:
                    names.setdefault(identifier, []).append(name)
        return names

    def give(self, name: str, identifier: str) -> None:
        """Call the classifier `identifier` by this name from now on, whatever had it before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._table() as table:
            table.execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", (self._server, name, identifier))

    def forget(self, identifier: str) -> None:
        """Forget every name of a classifier that is gone."""
        if self.path.exists():
            with self._table() as table:
                table.execute("DELETE FROM names WHERE server = ? AND id = ?", (self._server, identifier))

    @contextmanager
    def _table(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as connection, connection:
                connection.execute(_TABLE)
                yield connection
        except sqlite3.Error as error:
            raise OSError(f"{self.path}, which holds the names of classifiers, cannot be used: {error}") from error


def check_name(name: str) -> str:
    """A name as it is kept. Raises ValueError for one that could be taken for something else."""
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise ValueError(f"{name!r} cannot be a name: it needs a visible character, and none but spaces around it")
    if looks_like_id(name):
        raise ValueError(f"{name!r} cannot be a name: it looks like the id of a classifier")
    return name


def looks_like_id(text: str) -> bool:
    """Whether this is what the server calls a classifier."""
    return _ID.fullmatch(text) is not None
