"""How many jobs wait and for how long, as known without a query to the table.

The times in the table are wall-clock times, which may jump. The age of a job is therefore measured on the monotonic
clock from the moment at which the job was first seen here; the wall clock only gives its age at that moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import final

from recall_server.jobs.rows.records import now


@final
class QueueAges:
    """The ages of the jobs in the queue. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[tuple[str, datetime], float] = {}

    @property
    def length(self) -> int:
        """The number of jobs that waited at the last update."""
        return len(self._since)

    def remove(self, identifier: str) -> None:
        """Note that this job does not wait any more."""
        with self._lock:
            self._since = {key: since for key, since in self._since.items() if key[0] != identifier}

    def update(self, queued: Mapping[str, datetime]) -> dict[str, float]:
        """The jobs that wait now, with the times at which they were queued -> seconds that each has waited."""
        moment, wall_clock = self._clock(), now()
        with self._lock:
            self._since = {
                (name, at): self._since.get((name, at), moment - max(0.0, (wall_clock - at).total_seconds()))
                for name, at in queued.items()
            }
            return {name: moment - since for (name, _), since in self._since.items()}
