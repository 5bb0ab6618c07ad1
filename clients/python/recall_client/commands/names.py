"""Names of classifiers, kept on this machine: the server knows only ids.

They are in SQLite, because two commands may write at the same time and either may be killed.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import typer

_ID = re.compile(r"[0-9a-f]{32}")
_PATIENCE = 10.0  # seconds to wait for another command that is writing
_TABLE = "CREATE TABLE IF NOT EXISTS names (server TEXT, name TEXT, id TEXT NOT NULL, PRIMARY KEY (server, name))"


class Names:
    """The names of one server's classifiers. Every method raises OSError where the file cannot be used."""

    def __init__(self, server: str, path: Path | None = None) -> None:
        self.path = path or Path(typer.get_app_dir("recall")) / "names.sqlite"
        self._server = server.strip().rstrip("/")

    def get(self, name: str) -> str | None:
        """Return the id behind a name, or None."""
        if not self.path.exists():
            return None
        key = (self._server, unicodedata.normalize("NFC", name))
        with self._table() as table:
            found = table.execute("SELECT id FROM names WHERE server = ? AND name = ?", key).fetchone()
        return None if found is None else str(found[0])

    def by_id(self) -> dict[str, list[str]]:
        """Return the sorted names of each id."""
        names: dict[str, list[str]] = {}
        if self.path.exists():
            with self._table() as table:
                rows = table.execute("SELECT id, name FROM names WHERE server = ? ORDER BY name", (self._server,))
                for identifier, name in rows:
                    names.setdefault(identifier, []).append(name)
        return names

    def prepare(self) -> None:
        """Create the file, so that `give` will not be the first to find out that it cannot be written."""
        if not self.path.is_absolute():  # it would begin with a folder called "~"
            raise OSError("names cannot be kept without a home folder; set HOME or XDG_CONFIG_HOME")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._table() as table:
            table.execute("DELETE FROM names WHERE server IS NULL")  # a write, which no row is affected by

    def give(self, name: str, identifier: str) -> None:
        """Give a name to the classifier `identifier`, taking it from any other."""
        self.prepare()
        row = (self._server, unicodedata.normalize("NFC", name), identifier)
        with self._table() as table:
            table.execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", row)

    def forget(self, identifier: str) -> None:
        """Forget every name of a deleted classifier."""
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
            raise OSError(f"{self.path}, the file of names, cannot be used: {error}") from error


def check_name(name: str) -> str:
    """Return a name for a classifier. Raises ValueError for one that is invisible or looks like an id."""
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise ValueError(f"{name!r} cannot be a name: it must be printable, without spaces around it")
    if looks_like_id(name):
        raise ValueError(f"{name!r} cannot be a name: it looks like the id of a classifier")
    return name


def looks_like_id(text: str) -> bool:
    """Tell whether `text` has the form of a classifier's id."""
    return _ID.fullmatch(text) is not None
