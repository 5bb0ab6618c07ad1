"""Whether there is room: a caller's rates, the queue of trainings, and the threads that compute.

Too much work is a 429, for the caller can do something about it: ask less, or later. A server that is stopping or has
no worker is a 503. Both say after how many seconds another try is worth it.
"""

from __future__ import annotations

import re
from typing import final

from recall_server.api.state.context import Context
from recall_server.errors import Forbidden, Overloaded, RecallError, StorageFailed, Unauthorised, Unavailable

COMPUTES = re.compile(r"/recall|/classifier/[^/]+/predict")
REASONS: dict[type[RecallError], str] = {
    Unauthorised: "key",
    Forbidden: "scope",
    Overloaded: "too much",
    Unavailable: "unavailable",
    StorageFailed: "storage",
}


@final
class Admission:
    """Raises Overloaded, Unavailable or StorageFailed for a request that there is no room for."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def admit(self, method: str, path: str, caller: str) -> None:
        """Decide by method, path and caller."""
        self._context.rates.admit(caller)
        if method != "POST":
            return
        if path == "/classifier":
            self._check_queue()
        elif COMPUTES.fullmatch(path):
            self._context.check_threads()

    def refused(self, error: RecallError) -> None:
        """Count a refusal."""
        self._context.metrics.refusals.labels(REASONS.get(type(error), "other")).inc()

    def _check_queue(self) -> None:
        room = self._context.service.jobs.room()
        if room.reason == "storage" or self._context.disk_is_low():
            raise StorageFailed("the disk of this server is full or cannot be written, so nothing can be trained")
        if room.accepting:
            return
        if room.reason == "full":
            raise Overloaded(
                f"{room.queued} trainings wait already, and no more than {room.limit} may", retry_after=room.retry_after
            )
        why = (
            "this server is stopping"
            if room.reason == "draining"
            else "this server has no worker to train at the moment"
        )
        raise Unavailable(why, retry_after=room.retry_after)
