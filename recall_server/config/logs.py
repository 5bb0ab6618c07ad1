"""Logs as lines for people or as one JSON object a line, each with the id of the request that it belongs to."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

# Each request has a line of its own, with id, route and time; and a warning for every broken form would let anybody
# fill the disk.
NOISY = ("uvicorn.access", "python_multipart")


def configure_logs(level: str, form: Literal["console", "json"]) -> None:
    """Send everything that is logged in this process, by whichever library, to standard error in one form.

    Code keeps to the standard `logging`; what a request binds with `structlog.contextvars` is added to its lines, and
    to those of the threads that work for it.
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
            exception_formatter=structlog.dev.plain_traceback,  # the default prints local variables: pictures and keys
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
