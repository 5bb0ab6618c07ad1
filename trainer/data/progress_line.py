"""Progress as one line of stderr: written over on a terminal, else a line in ten seconds."""

from __future__ import annotations

import math
import sys
import time

LINE_SECONDS = 10.0


class ProgressLine:
    """How far work is, and how long the rest takes."""

    def __init__(self) -> None:
        self._printed = time.monotonic()

    def show(self, text: str, seconds_left: float | None) -> None:
        """Show the text with the time that is left: None where nobody knows, 0 at the end."""
        left = f", about {math.ceil(seconds_left)} s left" if seconds_left else ""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{text}{left}\x1b[K{chr(10) if seconds_left == 0 else ''}")
            sys.stderr.flush()
        elif time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            sys.stderr.write(f"{text}{left}\n")


class Countdown:
    """Called after each of `count` equal pieces of work, such as networks to train."""

    def __init__(self, what: str, count: int) -> None:
        self.what, self.count, self.done = what, count, 0
        self._line, self._started = ProgressLine(), time.monotonic()

    def __call__(self) -> None:
        self.done += 1
        others = max(0, self.count - self.done)
        self._line.show(
            f"{self.what} {self.done} of {self.count}", others * (time.monotonic() - self._started) / self.done
        )
