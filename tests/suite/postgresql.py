"""PostgreSQL servers of the tests' own, from the system's packages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server that tests share: they neither stop nor freeze it."""
    server = PostgresServer.started()
    yield server
    server.close()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of this test alone."""
    server = PostgresServer.started()
    yield server
    server.close()
