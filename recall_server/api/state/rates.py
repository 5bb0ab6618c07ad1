"""Rate limits of callers: requests, and computed pictures.

A request is counted before it is admitted. Its work is known only after it was read and is charged then, so a caller
with any work left is admitted and may exceed the limit once.
"""

from __future__ import annotations

import math
import time
from typing import final

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from recall_server.errors import Overloaded
from recall_server.jobs.counters import LONGEST_WAIT

REQUESTS, WORK = "requests", "pictures"


@final
class Rates:
    """Counts requests and work by the name of the caller; None is no limit. Each server process counts on its own."""

    def __init__(self, requests: RateLimitItem | None, work: RateLimitItem | None) -> None:
        self._limits = {REQUESTS: requests, WORK: work}
        self._counts = FixedWindowRateLimiter(MemoryStorage())

    def admit(self, caller: str) -> None:
        """Count a request; raises Overloaded beyond the limit of requests, or if no work is left."""
        requests, work = self._limits[REQUESTS], self._limits[WORK]
        if requests is not None and not self._counts.hit(requests, REQUESTS, caller):
            raise self._too_much(requests, REQUESTS, caller)
        if work is not None and not self._counts.test(work, WORK, caller):
            raise self._too_much(work, WORK, caller)

    def pay(self, caller: str, pictures: int) -> None:
        """Charge pictures that a request computed: recalled, encoded, classified or trained on, once for each step."""
        work = self._limits[WORK]
        if work is not None and pictures > 0:
            self._counts.hit(work, WORK, caller, cost=pictures)

    def _too_much(self, limit: RateLimitItem, what: str, caller: str) -> Overloaded:
        seconds = max(1, math.ceil(self._counts.get_window_stats(limit, what, caller).reset_time - time.time()))
        return Overloaded(
            f"{caller} has used up its {limit.amount} {what} per {limit.multiples} {limit.GRANULARITY.name}; "
            f"try again in {seconds} seconds",
            retry_after=min(seconds, LONGEST_WAIT),
        )
