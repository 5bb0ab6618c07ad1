"""Limits on jobs, and whether another job would be accepted at the moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

DAY = 86_400.0


@final
@dataclass(frozen=True)
class JobLimits:
    """What one server accepts and keeps.

    `queue` is the number of jobs that may wait for each worker, `attempts` how often a job is started whose worker
    dies. Jobs that ended more than `keep_seconds` ago are removed, and so are the oldest ones until the others, with
    their records, take at most `keep_bytes`; None keeps them all. A server that is silent for `lease_seconds` loses its
    jobs.
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
    """Whether a job would be accepted and, if not, why, and after how many seconds a caller should try again.

    "full" means that too many jobs wait. The other reasons concern this server: it is stopping ("draining"), has no
    worker, or cannot write to its storage.
    """

    accepting: bool
    reason: Literal["", "full", "draining", "no worker", "storage"]
    retry_after: int
    queued: int
    limit: int
