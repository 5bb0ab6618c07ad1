"""A clock for what cannot be undone: a wrong time of day that lasts a minute must not delete anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import final

from recall_server.jobs.rows.records import now


@final
class CautiousClock:
    """The earliest time of day that was seen at every look during the last `seconds`."""

    def __init__(
        self, seconds: float, wall: Callable[[], datetime] = now, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._wall, self._elapsed = seconds, wall, elapsed
        self._looks: list[tuple[float, datetime]] = []  # each when it was, by `elapsed`, and what it saw

    def look(self) -> datetime | None:
        """Look now. Returns None until the first look is `seconds` ago.

        A clock that jumps ahead is believed once it has stayed there for `seconds`; one that jumps back, at once.
        """
        moment = self._elapsed()
        self._looks.append((moment, self._wall()))
        # The latest look that is `seconds` ago stays, so that the looks span the whole time.
        while len(self._looks) > 1 and moment - self._looks[1][0] >= self._seconds:
            del self._looks[0]
        if moment - self._looks[0][0] < self._seconds:
            return None
        return min(seen for _, seen in self._looks)
