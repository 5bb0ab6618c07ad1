"""How many jobs wait, and how long they have: what can be told without asking the table.

The table's times are wall-clock times, which may jump. How long a job has waited is therefore measured from the moment
it was first seen here, on the monotonic clock; the wall clock only says how long it had waited by then.
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
    """Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[tuple[str, datetime], float] = {}

    @property
    def length(self) -> int:
        """Jobs that waited at the last look."""
        return len(self._since)

    def left(self, identifier: str) -> None:
        """This job does not wait any more."""
        with self._lock:
            self._since = {key: since for key, since in self._since.items() if key[0] != identifier}

    def look(self, queued: Mapping[str, datetime]) -> dict[str, float]:
        """Seconds that each of these jobs has waited, given when the table says that it was queued."""
        moment, today = self._clock(), now()
        with self._lock:
            self._since = {
                (name, at): self._since.get((name, at), moment - max(0.0, (today - at).total_seconds()))
                for name, at in queued.items()
            }
            return {name: moment - since for (name, _), since in self._since.items()}
