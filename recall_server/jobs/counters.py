"""What the jobs of one server came to since it started, counted in memory."""

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
UNKNOWN_SECONDS = 5.0  # what a training is taken to last before one has ended
LONGEST_WAIT = 120  # seconds; common clients give up beyond


@final
@dataclass(frozen=True)
class StageSeconds:
    """How many jobs have gone through a stage, and the time it took them together."""

    count: int
    seconds: float


@final
@dataclass(frozen=True)
class JobStatistics:
    """`queued`, `running` and `oldest_queued_seconds` are of the whole table; the rest is of this server's work."""

    queued: int
    running: int
    oldest_queued_seconds: float
    finished: Mapping[JobStatus, int]
    seconds_by_stage: Mapping[Stage, StageSeconds]
    retries: int


@final
class JobCounters:
    """The counters. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._finished: Counter[JobStatus] = Counter()
        self._count: Counter[Stage] = Counter()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._retries = 0

    def stage(self, stage: Stage, seconds: float) -> None:
        with self._lock:
            self._count[stage] += 1
            self._seconds[stage] += max(0.0, seconds)

    def ended(self, status: JobStatus) -> None:
        with self._lock:
            self._finished[status] += 1

    def retried(self) -> None:
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
        """Seconds until so many jobs will have been begun, a little spread so that not everybody comes back at once."""
        with self._lock:
            trained = self._count["training"]
            mean = self._seconds["training"] / trained if trained else UNKNOWN_SECONDS
        return max(1, min(LONGEST_WAIT, math.ceil(mean * queued / max(1, workers) * random.uniform(1.0, 1.25))))
