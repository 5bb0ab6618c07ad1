"""How much decoding each caller has under way, so that the pictures of one never hold up those of all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from recall_server.errors import Abandoned, Overloaded


@final
class DecodingShares:
    """Pixels that are being decoded for each caller, `limit` of them at most. Safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._pixels: Counter[str] = Counter()

    @contextmanager
    def share(self, caller: str) -> Iterator[Share]:
        """The share of one request, given back at the end."""
        share = Share(self, caller)
        try:
            yield share
        finally:
            share.give_back()

    def take(self, caller: str, pixels: int) -> None:
        """Add to the pixels of a caller; raises Overloaded beyond the limit."""
        with self._lock:
            if self._pixels[caller] + pixels > self._limit:
                raise Overloaded("pictures of other requests of yours are still being decoded", retry_after=2)
            self._pixels[caller] += pixels

    def give_back(self, caller: str, pixels: int) -> None:
        """Undo `take`."""
        with self._lock:
            self._pixels[caller] -= pixels
            if not self._pixels[caller]:
                del self._pixels[caller]


@final
class Share:
    """The pixels that one request has taken."""

    def __init__(self, shares: DecodingShares, caller: str) -> None:
        self._shares, self._caller, self._taken = shares, caller, 0
        self._lock, self._ended = threading.Lock(), False

    def take(self, pixels: int) -> None:
        """Raises Overloaded beyond the limit of the caller, and Abandoned once the request has ended."""
        with self._lock:
            if self._ended:
                raise Abandoned("the request has ended before its pictures were decoded")
            self._shares.take(self._caller, pixels)
            self._taken += pixels

    def give_back(self) -> None:
        """End the share. Harmless to repeat."""
        with self._lock:
            self._shares.give_back(self._caller, self._taken)
            self._ended, self._taken = True, 0
