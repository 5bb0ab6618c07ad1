"""Whether another try is worth it, and when: exponential pauses with full jitter, never earlier than Retry-After says.

Full jitter (a pause drawn from nothing to the longest) keeps clients that failed together from coming back together.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2

from recall_client.errors import NoAnswer, RecallError, ServerFailed, TryAgain

FIRST = 0.5  # seconds: the longest pause after the first failure, doubled after each further one
LONGEST = 60.0  # seconds: who is asked to wait longer is told so instead
LONGEST_UNASKED = 8.0  # seconds: the longest pause where the server named none
SILENCE = 120.0  # seconds that a server may be gone while somebody waits for a training: a restart takes a few
_GATEWAYS = (502, 504)
_HOPELESS = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)


@dataclass(frozen=True)
class Retries:
    """`count` further tries of what failed for a while. `chance` draws from 0 to 1."""

    count: int
    chance: Callable[[], float] = field(default=random.random, repr=False)

    def pause(self, failures: int, failure: RecallError) -> float | None:
        """Seconds until the next try after so many failures in a row; None where there should be none."""
        return None if failures > self.count or not passes(failure) else self.pause_until_back(failures, failure)

    def pause_until_back(self, failures: int, failure: RecallError) -> float | None:
        """The same for whoever knows that another try is worth it: None only where it should not be soon."""
        jitter = self.chance() * min(LONGEST_UNASKED, FIRST * 2.0 ** min(failures - 1, 10))
        asked = failure.retry_after if isinstance(failure, TryAgain) else None
        if asked is None:
            return jitter
        return None if asked > LONGEST else asked + min(jitter, 0.5)


@dataclass
class Endurance:
    """Failures in a row while waiting for something that goes on without us: a server may be gone for a while."""

    retries: Retries
    clock: Callable[[], float] = time.monotonic
    _failures: int = 0
    _since: float = 0.0

    def answered(self) -> None:
        """The server is there."""
        self._failures = 0

    def failed(self, failure: RecallError) -> float:
        """Seconds until the next try. Raises `failure` where it will not pass, or the silence has lasted too long."""
        self._since = self.clock() if self._failures == 0 else self._since
        self._failures += 1
        # A server that is being stopped may answer 500 to what it has no time for any more.
        worth_it = self.retries.count > 0 and (passes(failure) or type(failure) is ServerFailed)
        pause = self.retries.pause_until_back(self._failures, failure) if worth_it else None
        if pause is None or self.clock() + pause > self._since + SILENCE:
            raise failure
        return pause


def passes(failure: RecallError) -> bool:
    """Whether the same request may be answered well a little later."""
    if isinstance(failure, NoAnswer):
        return not isinstance(failure.__cause__, _HOPELESS)
    return isinstance(failure, TryAgain) or (isinstance(failure, ServerFailed) and failure.status in _GATEWAYS)
