"""A progress line on a terminal."""

from __future__ import annotations

import sys
from typing import TextIO, final

from recall_client.messages.models import ClassifierState

_BAR = 24  # characters


def describe(state: ClassifierState) -> str:
    """Return "training [######......] 40/150, loss 0.312", or the status of a training that is not running."""
    if state.status != "running" or state.progress is None or state.progress.total <= 0:
        return {"running": "starting to train"}.get(state.status, state.status)
    progress = state.progress
    filled = "#" * (_BAR * min(progress.done, progress.total) // progress.total)
    loss = "" if progress.loss is None else f", loss {progress.loss:.3g}"
    return f"training [{filled:.<{_BAR}}] {progress.done}/{progress.total}{loss}"


@final
class ProgressLine:
    """Called with every state: one line that is rewritten on a terminal, and one line per status elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._status, self._width = "", 0

    def __call__(self, state: ClassifierState) -> None:
        if not self._stream.isatty():
            if state.status != self._status:
                self._status = state.status
                self._stream.write(f"{state.id}: {describe(state)}\n")
            return
        line = describe(state)
        self._stream.write(f"\r{line:<{self._width}}{chr(10) if state.is_terminal else ''}")
        self._stream.flush()
        self._width = 0 if state.is_terminal else len(line)
