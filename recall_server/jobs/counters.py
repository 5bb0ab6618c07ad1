"""Counters of what one server has done since it started. They are kept in memory."""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, final

from recall_server.jobs.rows.records import JobStatus

Stage = Literal["queue", "training"]
STAGES: Final[tuple[Stage, ...]] = ("queue", "training")
UNKNOWN_SECONDS = 5.0  # the assumed duration of a training before the first has ended
LONGEST_WAIT = 120  # seconds; common clients do not wait longer


@final
@dataclass(frozen=True)
class StageSeconds:
    """How many jobs have gone through a stage, and the sum of the seconds that each took."""

    count: int
    seconds: float


@final
@dataclass(frozen=True)
class JobStatistics:
    """`queued`, `running` and `oldest_queued_seconds` describe the whole table, the other fields this server's work."""

    queued: int
    running: int
    oldest_queued_seconds: float
    finished: Mapping[JobStatus, int]
    seconds_by_stage: Mapping[Stage, StageSeconds]
    retries: int


@final
class JobCounters:
    """Counts jobs by their end, and seconds by stage. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._finished: Counter[JobStatus] = Counter()
        self._count: Counter[Stage] = Counter()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._retries = 0

    def add_stage(self, stage: Stage, seconds: float) -> None:
        with self._lock:
            self._count[stage] += 1
            self._seconds[stage] += max(0.0, seconds)

    def add_end(self, status: JobStatus) -> None:
        with self._lock:
            self._finished[status] += 1

    def add_retry(self) -> None:
        with self._lock:
            self._retries += 1

    def statistics(self, *, queued: int, running: int, oldest: float) -> JobStatistics:
        with self._lock:
            return JobStatistics(
                queued=queued,
                running=running,
                oldest_queued_seconds=oldest,
                finished={status: self._finished[status] for status in JobStatus if status.is_terminal},
                seconds_by_stage={stage: StageSeconds(self._count[stage], self._seconds[stage]) for stage in STAGES},
                retries=self._retries,
            )

    def retry_after(self, queued: int, workers: int) -> int:
        """The expected seconds until `queued` jobs have started, times a random factor that spreads the callers."""
        with self._lock:
            trained = self._count["training"]
            mean = self._seconds["training"] / trained if trained else UNKNOWN_SECONDS
        return max(1, min(LONGEST_WAIT, math.ceil(mean * queued / max(1, workers) * random.uniform(1.0, 1.25))))
