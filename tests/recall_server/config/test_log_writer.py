"""Who logs does not wait for the stream, and no line is lost or out of order."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable

import pytest

from recall_server.config import log_writer
from recall_server.config.log_writer import LogWriter


class SlowStream(io.StringIO):
    """A stream that takes nothing before it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    def write(self, text: str) -> int:
        assert self.opened.wait(20)
        return super().write(text)


def logging_to(stream: io.StringIO) -> tuple[Callable[[str], None], LogWriter]:
    """A function that logs a line, and its handler."""
    handler = LogWriter(stream)
    return lambda text: handler.handle(logging.makeLogRecord({"msg": text})), handler


def test_nobody_waits_for_a_stream_that_takes_nothing() -> None:
    stream = SlowStream()
    log, handler = logging_to(stream)
    for number in range(1000):
        log(f"{number}")
    assert stream.getvalue() == ""
    stream.opened.set()
    handler.flush()
    assert stream.getvalue().splitlines() == [f"{number}" for number in range(1000)]


def test_lines_are_written_without_being_asked_for() -> None:
    stream, written = io.StringIO(), threading.Event()
    stream.flush = written.set  # type: ignore[method-assign]
    log, _ = logging_to(stream)
    for text in ("first", "second"):
        log(text)
        assert written.wait(20)
        written.clear()
    assert stream.getvalue() == "first\nsecond\n"


def test_the_lines_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "MOST_LINES", 3)
    monkeypatch.setattr(log_writer, "SECONDS_TOGETHER", 20.0)
    stream = io.StringIO()
    log, _ = logging_to(stream)
    for number in range(4):
        log(f"{number}")
    assert stream.getvalue() == "0\n1\n2\n"


def test_a_stream_that_fails_once_gets_the_later_lines() -> None:
    class FailsOnce(io.StringIO):
        failed = threading.Event()

        def write(self, text: str) -> int:
            if not self.failed.is_set():
                self.failed.set()
                raise OSError("no space left")
            return super().write(text)

    stream = FailsOnce()
    log, handler = logging_to(stream)
    log("lost")
    assert stream.failed.wait(20)
    log("kept")
    handler.flush()
    assert "kept" in stream.getvalue()
