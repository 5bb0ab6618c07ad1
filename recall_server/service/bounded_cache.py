"""A cache of the most recently used values, bounded by their bytes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar, final

Value = TypeVar("Value")


@final
class BoundedCache(Generic[Value]):
    """Keeps values of at most `max_bytes` in total and drops those used longest ago. Safe to use from several threads.

    A value of more than a quarter of `max_bytes` is not kept.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes, self._clock = max_bytes, clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[Value]] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """The size of all values that are kept."""
        return self._bytes

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            self._entries[key].used = self._clock()
            return self._entries[key].value

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of `size` bytes, in place of any other one under the same key."""
        with self._lock:
            if key in self._entries:
                self._bytes -= self._entries.pop(key).size
            if size > self._max_bytes // 4:
                return
            self._entries[key] = _Entry(value, size, self._clock())
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._drop_oldest()

    def drop_unused(self, seconds: float) -> None:
        """Drop what nobody has used for so long."""
        with self._lock:
            limit = self._clock() - seconds
            while self._entries and next(iter(self._entries.values())).used < limit:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._bytes -= self._entries.popitem(last=False)[1].size


@dataclass
class _Entry(Generic[Value]):
    value: Value
    size: int
    used: float
