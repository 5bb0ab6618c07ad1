"""When to try again: exponential backoff with full jitter, and never earlier than Retry-After.

Full jitter (a pause drawn uniformly from 0 to the backoff) spreads out clients that failed at the same moment.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2

from recall_client.errors import NoAnswer, RecallError, ServerFailed, TryAgain

FIRST = 0.5  # seconds: backoff after the first failure, doubled after each further one
LONGEST = 60.0  # seconds: a longer Retry-After is reported instead of waited for
LONGEST_BACKOFF = 8.0  # seconds
SILENCE = 120.0  # seconds that a server may be gone while a training is followed: a restart takes a few
_GATEWAYS = (502, 504)
_PERMANENT = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)


def _uniform() -> float:
    """Return a number from 0 to 1 of this process's own generator: a bound method would be pickled with its state."""
    return random.random()


@dataclass(frozen=True)
class Retries:
    """At most `count` further tries after temporary failures. `chance` draws from 0 to 1."""

    count: int
    chance: Callable[[], float] = field(default=_uniform, repr=False)

    def pause(self, failures: int, failure: RecallError) -> float | None:
        """Return the seconds until the next try after `failures` in a row, None for no further try."""
        return None if failures > self.count or not is_temporary(failure) else self.backoff(failures, failure)

    def backoff(self, failures: int, failure: RecallError) -> float | None:
        """Return the seconds until the next try, None where the server asks for a pause over LONGEST."""
        jitter = self.chance() * min(LONGEST_BACKOFF, FIRST * 2.0 ** min(failures - 1, 10))
        retry_after = failure.retry_after if isinstance(failure, TryAgain) else None
        if retry_after is None:
            return jitter
        return None if retry_after > LONGEST else retry_after + min(jitter, 0.5)


@dataclass
class Outage:
    """Failures in a row while following a training, which continues whether or not the server can be reached."""

    retries: Retries
    clock: Callable[[], float] = time.monotonic
    _failures: int = 0
    _since: float = 0.0

    def over(self) -> None:
        """Forget the failures: the server has answered."""
        self._failures = 0

    def failed(self, failure: RecallError) -> float:
        """Return the seconds until the next try. Raises `failure` if it is permanent, or after SILENCE seconds."""
        self._since = self.clock() if self._failures == 0 else self._since
        self._failures += 1
        # A server that is being stopped may answer 500 to requests that it aborts.
        temporary = self.retries.count > 0 and (is_temporary(failure) or type(failure) is ServerFailed)
        pause = self.retries.backoff(self._failures, failure) if temporary else None
        if pause is None or self.clock() + pause > self._since + SILENCE:
            raise failure
        return pause


def is_temporary(failure: RecallError) -> bool:
    """Tell whether the same request may succeed a little later."""
    if isinstance(failure, NoAnswer):
        return not isinstance(failure.__cause__, _PERMANENT)
    return isinstance(failure, TryAgain) or (isinstance(failure, ServerFailed) and failure.status in _GATEWAYS)
