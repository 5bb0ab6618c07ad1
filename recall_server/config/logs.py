"""Logs as text for people, or as one JSON object per line. Each line has the id of its request, if there is one."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

# The server logs each request itself, with id, route and time. A warning for every malformed form would let callers
# fill the disk.
NOISY = ("uvicorn.access", "python_multipart")


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
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # the default prints local variables, such as keys
        )
    ]
    if form == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
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
