"""Connections to PostgreSQL that end when the database does not answer.

A database that has stopped without closing its connections, or a machine that has left the network, answers nothing and
refuses nothing. A thread that waits for it would wait for ever, and so would everything that waits for the thread.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event

from recall_server.core.io.deadline import calls_after

ANSWER_SECONDS: Final = 10  # to connect, and for each answer; `connect_timeout` in the URL replaces it


def bounded_engine(url: URL) -> Engine:
    """An engine for this URL whose waits all end. Raises ModuleNotFoundError where psycopg is not installed.

    A connection whose answer takes too long is closed, which raises OperationalError in the thread that waits.
    """
    seconds = int(str(url.query.get("connect_timeout", ANSWER_SECONDS)))
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        pool_timeout=seconds,
        connect_args={"connect_timeout": seconds},
    )
    connect = _bounded_connect(seconds)
    event.listen(engine, "do_connect", lambda _dialect, _record, given, named: connect(*given, **named))
    return engine


def _bounded_connect(seconds: int) -> Callable[..., Any]:
    """`psycopg.connect` for connections of which no wait takes longer than this."""
    connection: Any = importlib.import_module("psycopg").Connection  # an extra

    class BoundedConnection(connection):  # type: ignore[misc]
        def wait(self, *arguments: Any, **options: Any) -> Any:
            with calls_after(seconds, functools.partial(_cut, self.pgconn.socket)):
                return super().wait(*arguments, **options)

    connect: Callable[..., Any] = BoundedConnection.connect
    return connect


def _cut(connection: int) -> None:
    """Shut the connection with this file number down."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
