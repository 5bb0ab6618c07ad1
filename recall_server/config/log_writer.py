"""Writes logs in a thread of its own, so that nobody who logs waits for a slow disk or for who reads the stream.

The event loop logs each request. Each write of its own would also be a moment in which a thread that computes may take
the interpreter's lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Final, TextIO, final

SECONDS_TOGETHER: Final = 0.05  # lines of so long are written together; a killed process loses them
MOST_LINES: Final = 10_000  # that wait; beyond them, who logs waits until they are written


@final
class LogWriter(logging.Handler):
    """A handler that writes to `stream` within SECONDS_TOGETHER, and all that is left when the process ends."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque()  # added to and taken from without a lock
        self._writing = threading.Lock()  # keeps the order of the lines
        self._any = threading.Event()
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line for the thread that writes."""
        try:
            self._lines.append(f"{self.format(record)}\n")
        except Exception:
            return self.handleError(record)
        self._any.set()
        if len(self._lines) >= MOST_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is kept."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            self._stream.write("".join(lines))
            self._stream.flush()

    def _write(self) -> None:
        while True:
            self._any.wait()
            self._any.clear()
            time.sleep(SECONDS_TOGETHER)
            try:
                self.flush()
            except Exception:  # a full disk, or a pipe that nobody reads any more: later lines may get through
                continue
