"""Leases: which servers are alive, and how the others notice that one is gone.

A living server increments a number in its row every few seconds. The others note, each on its own monotonic clock,
when they last saw that number change. No two clocks are ever compared, so a clock that is set or wrong on one of the
machines neither ends a lease nor extends it.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import final

from sqlalchemy import delete, insert, select, update

from recall_server.jobs.rows.database import Database
from recall_server.jobs.rows.table import servers

BEATS = 3  # heartbeats within a lease; the lease ends if all of them are missed

logger = logging.getLogger(__name__)


@final
class Lease:
    """The lease of one server on its jobs. `owner` is the id under which the table knows this server."""

    def __init__(self, database: Database, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._seconds, self._clock = database, seconds, clock
        self._seen: dict[str, tuple[int, float]] = {}
        self.owner = ""

    def acquire(self) -> None:
        """Add this server to the table under a new id."""
        owner = uuid.uuid4().hex
        with self._database.writing() as connection:
            connection.execute(insert(servers).values(id=owner, beat=0))
        self.owner = owner

    def renew(self) -> bool:
        """Show that this server is alive. Returns False if others took it for dead, and with that its jobs."""
        with self._database.writing() as connection:
            result = connection.execute(
                update(servers).where(servers.c.id == self.owner).values(beat=servers.c.beat + 1)
            )
        return result.rowcount == 1

    def expire_leases(self) -> int:
        """Remove servers from the table that were silent for the time of a lease. Returns how many there were."""
        with self._database.reading() as connection:
            beats = {row.id: row.beat for row in connection.execute(select(servers)) if row.id != self.owner}
        moment = self._clock()
        self._seen = {
            server: seen if (seen := self._seen.get(server)) and seen[0] == beat else (beat, moment)
            for server, beat in beats.items()
        }
        silent = [server for server, (_, since) in self._seen.items() if moment - since >= self._seconds]
        return sum(self._remove(server, beats[server]) for server in silent)

    def is_only(self) -> bool:
        """Whether the table knows no other server."""
        with self._database.reading() as connection:
            return connection.execute(select(servers.c.id).where(servers.c.id != self.owner)).first() is None

    def release(self) -> None:
        """Remove this server from the table."""
        with self._database.writing() as connection:
            connection.execute(delete(servers).where(servers.c.id == self.owner))

    def _remove(self, server: str, beat: int) -> bool:
        # The beat is part of the condition: the server may have woken up at this moment.
        with self._database.writing() as connection:
            result = connection.execute(delete(servers).where(servers.c.id == server, servers.c.beat == beat))
        if result.rowcount == 1:
            logger.warning("server %s has been silent for %g seconds: others take over its jobs", server, self._seconds)
        return result.rowcount == 1
