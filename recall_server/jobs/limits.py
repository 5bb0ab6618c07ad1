"""How much is accepted, how long it may take, how long it is kept; and whether there is room at the moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

DAY = 86_400.0


@final
@dataclass(frozen=True)
class JobLimits:
    """`queue`: jobs that may wait, for each worker. `attempts`: how often a job is begun whose worker dies.

    `keep_seconds` and `keep_bytes`: finished jobs older than that, and the oldest classifiers beyond that size, are
    removed; None keeps them. `lease_seconds`: a server that has been silent for so long has lost its jobs.
    """

    training_seconds: float = 600.0
    queue: int = 16
    queue_seconds: float = 3600.0
    attempts: int = 2
    keep_seconds: float | None = 30 * DAY
    keep_bytes: int | None = 2**30
    lease_seconds: float = 15.0


@final
@dataclass(frozen=True)
class Admission:
    """Whether a job would be accepted; if not, why, and after how many seconds another try is worth it.

    "full" passes with time; the others are about this server: it is stopping, has no worker, or cannot store.
    """

    accepting: bool
    reason: Literal["", "full", "draining", "no worker", "storage"]
    retry_after: int
    queued: int
    limit: int
