"""Whether the server has room for a request: the caller's rates, the training queue and the computing threads.

Too much work is a 429: the caller can ask for less, or later. A server that is stopping or has no worker is a 503. Both
carry `Retry-After`.
"""

from __future__ import annotations

from typing import final

from recall_server.api.guards.access import Resource
from recall_server.api.state.context import Context
from recall_server.errors import Forbidden, Overloaded, RecallError, StorageFailed, Unauthorised, Unavailable

REASONS: dict[type[RecallError], str] = {
    Unauthorised: "key",
    Forbidden: "scope",
    Overloaded: "too much",
    Unavailable: "unavailable",
    StorageFailed: "storage",
}


@final
class Admission:
    """Raises Overloaded, Unavailable or StorageFailed for a request that the server has no room for."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def admit(self, caller: str, resource: Resource | None) -> None:
        """Count a request of this caller, and check the resource that it needs."""
        self._context.rates.admit(caller)
        if resource == "queue":
            self._check_queue()
        elif resource == "threads":
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
                f"{room.queued} trainings are queued, and the limit is {room.limit}", retry_after=room.retry_after
            )
        reason = "this server is stopping" if room.reason == "draining" else "this server has no worker at the moment"
        raise Unavailable(reason, retry_after=room.retry_after)
