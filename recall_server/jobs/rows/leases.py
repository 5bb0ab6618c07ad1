"""Which server works on which job, and how the others learn that it is gone.

No clock is compared with another. A living server raises a number in its row every few seconds; whoever watches notes
on its own monotonic clock when it last saw that number change. So a clock that is set back or forward, or is wrong on
one of the machines, neither ends a lease nor prolongs it.
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
    """The standing of one server among those that share a table. `owner` marks the jobs that are this server's."""

    def __init__(self, database: Database, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._seconds, self._clock = database, seconds, clock
        self._seen: dict[str, tuple[int, float]] = {}
        self.owner = ""

    def acquire(self) -> None:
        """Enter this server in the table, under a name that no server had before."""
        owner = uuid.uuid4().hex
        with self._database.writing() as connection:
            connection.execute(insert(servers).values(id=owner, beat=0))
        self.owner = owner

    def renew(self) -> bool:
        """Show that this server lives. False where another one took it for dead: its jobs are its own no longer."""
        with self._database.writing() as connection:
            result = connection.execute(
                update(servers).where(servers.c.id == self.owner).values(beat=servers.c.beat + 1)
            )
        return result.rowcount == 1

    def expire_leases(self) -> int:
        """Take servers out of the table that have been silent for the time of a lease; how many they were."""
        with self._database.reading() as connection:
            beats = {row.id: row.beat for row in connection.execute(select(servers)) if row.id != self.owner}
        moment = self._clock()
        self._seen = {
            server: seen if (seen := self._seen.get(server)) and seen[0] == beat else (beat, moment)
            for server, beat in beats.items()
        }
        silent = [server for server, (_, since) in self._seen.items() if moment - since >= self._seconds]
        return sum(self._bury(server, beats[server]) for server in silent)

    def release(self) -> None:
        """Leave the table."""
        with self._database.writing() as connection:
            connection.execute(delete(servers).where(servers.c.id == self.owner))

    def _bury(self, server: str, beat: int) -> bool:
        # Only if it has not moved since: it may have woken up at this moment.
        with self._database.writing() as connection:
            result = connection.execute(delete(servers).where(servers.c.id == server, servers.c.beat == beat))
        if result.rowcount == 1:
            logger.warning("server %s has been silent for %g seconds: others take over its jobs", server, self._seconds)
        return result.rowcount == 1
