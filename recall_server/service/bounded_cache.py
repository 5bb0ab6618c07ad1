"""A cache of the most recently used values, bounded by their bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar, final

Value = TypeVar("Value")


@final
class BoundedCache(Generic[Value]):
    """Keeps values of at most `max_bytes` in total and drops those used longest ago. Safe to use from several threads.

    A value of more than a quarter of `max_bytes` is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
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
            return self._entries[key][0]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of `size` bytes, in place of any other one under the same key."""
        with self._lock:
            self._bytes -= self._entries.pop(key, (value, 0))[1]
            if size > self._max_bytes // 4:
                return
            self._entries[key] = (value, size)
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._bytes -= self._entries.popitem(last=False)[1][1]
