"""A PostgreSQL server of one's own, from the system's packages."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg

from benchmarks.waiting import PATIENCE, until

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/bin"))


class PostgresServer:
    """A server on a free port, which may be stopped, started and frozen. Its files are deleted when it is closed."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # the path of a socket is short
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # it refuses to run as root
        shutil.chown(self.folder, self.user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        initialise = ["initdb", "--auth=trust", "--username=tests", "--no-sync", f"--pgdata={self.folder / 'data'}"]
        subprocess.run(self._command(initialise), check=True, stdout=subprocess.DEVNULL, **self._as_user())

    @classmethod
    def started(cls) -> Self:
        """A server that answers."""
        server = cls()
        server.start()
        return server

    @property
    def url(self) -> str:
        """The database, for SQLAlchemy."""
        return f"postgresql://tests@127.0.0.1:{self.port}/postgres"

    def schema_url(self, name: str) -> str:
        """The database with an empty schema of its own for each name."""
        schema = f"test_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        with psycopg.connect(self.url) as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}".encode())
        return f"{self.url}?options=-csearch_path%3D{schema}"

    def start(self) -> None:
        """Start, and return when it answers."""
        fast = ["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60"]
        command = ["postgres", "-D", str(self.folder / "data"), "-k", str(self.folder), "-p", str(self.port), *fast]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(command), stdout=log, stderr=log, start_new_session=True, **self._as_user()
            )
        until(self._answers, "PostgreSQL answers")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: end all transactions; SIGQUIT: at once, as after a power failure."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(PATIENCE)

    def freeze(self) -> None:
        """All processes stop where they are, and their connections stay open."""
        assert self.process is not None
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """The opposite of `freeze`."""
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """Stop, and delete all files."""
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal_all(self, which: signal.Signals) -> None:
        # Every process of the server is the leader of a session of its own, so they are found by their parent.
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for process in (self.process.pid, *map(int, children)):
            with suppress(ProcessLookupError):  # a child, such as a connection's, may end after the list was read
                os.kill(process, which)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _command(self, words: list[str]) -> list[str]:
        return [str(PROGRAMS / words[0]), *words[1:]]

    def _as_user(self) -> dict[str, Any]:
        return {"user": self.user, "cwd": str(self.folder)} if os.geteuid() == 0 else {"cwd": str(self.folder)}
