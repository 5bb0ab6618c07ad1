"""Logs as text for people, or as one JSON object per line. Each line has the id of its request, if there is one."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import ExcInfo, Processor

from recall_server.config.log_writer import LogWriter

NOISY = ("uvicorn.access",)  # the server logs each request itself, with id, route and time


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line breaks


def configure_logs(level: str, form: Literal["console", "json"]) -> None:
    """Send all logs of this process, including those of libraries, to standard error in one form.

    Code uses the standard `logging`. What a request binds with `structlog.contextvars` is added to its lines, and to
    those of the threads that work for it.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _drop_coloured,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [
        _escape_values,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_write_traceback),
    ]
    if form == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = LogWriter(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).disabled = True


def escape(text: str) -> str:
    """The text without control characters, so that a file name cannot write to the terminal."""
    return CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def _drop_coloured(logger: Any, method: str, values: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop uvicorn's second copy of a message, which has codes of colours in it."""
    values.pop("color_message", None)
    return values


def _escape_values(logger: Any, method: str, values: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape all texts of a line, and indent its further lines, so that none passes for a line of its own."""
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = escape(value).replace("\n", "\n    ")
    return values


def _write_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """A traceback without the values of variables, which may be pictures and keys."""
    buffer = io.StringIO()
    structlog.dev.plain_traceback(buffer, exc_info)
    stream.write(escape(buffer.getvalue()))
