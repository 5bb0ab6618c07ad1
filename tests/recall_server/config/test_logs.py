"""Whatever is logged in the process comes out in one form, with the id of its request and without local variables."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

PROGRAM = """
import logging, sys, threading, contextvars
import structlog
from recall_server.config.logs import configure_logs
configure_logs("info", sys.argv[1])
structlog.contextvars.bind_contextvars(request_id="abc123")
logger = logging.getLogger("some.library")
logger.debug("too much")
logger.info("hello %s", "you", extra={"seconds": 1.5, "color_message": "hello again"})
threading.Thread(target=contextvars.copy_context().run, args=(logger.info, "from a thread")).start()
def fail(secret):
    raise RuntimeError("broken")
try:
    fail("pass" + "word")
except RuntimeError:
    logger.exception("unforeseen")
logging.getLogger("uvicorn.access").info("said elsewhere")
"""


def logged(form: str) -> str:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, form], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    return ran.stderr


def test_json_is_one_object_a_line() -> None:
    lines = [json.loads(line) for line in logged("json").splitlines()]
    assert [line["event"] for line in lines] == ["hello you", "from a thread", "unforeseen"]
    assert {line["request_id"] for line in lines} == {"abc123"}
    assert (lines[0]["logger"], lines[0]["level"], lines[0]["seconds"]) == ("some.library", "info", 1.5)
    assert lines[0]["timestamp"].endswith("Z")
    assert "RuntimeError: broken" in lines[2]["exception"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_show_no_values_of_variables(form: str) -> None:
    text = logged(form)
    assert "RuntimeError: broken" in text
    assert "password" not in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_message_is_not_repeated_in_colour(form: str) -> None:
    assert "hello again" not in logged(form)


def test_the_console_format_is_readable() -> None:
    first = logged("console").splitlines()[0]
    assert "hello you" in first and "request_id=abc123" in first and "\x1b" not in first


@pytest.mark.parametrize("character", ["\x1b", "\r", "\x00", "\x7f", "\x9b", "\x08"])
def test_control_characters_in_file_names_do_not_reach_the_terminal(character: str) -> None:
    program = (
        "import logging, sys; from recall_server.config.logs import configure_logs; configure_logs('info', 'console');"
        f"name = {character!r} + '[2Jbundle'; logger = logging.getLogger('x');"
        "logger.error('bundle rejected: %s', name, extra={'file': name});"
        "\ntry: raise OSError(name)\nexcept OSError: logger.exception('no')"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert character.encode() not in ran.stderr and ran.stderr.count(b"[2Jbundle") >= 3


def test_a_line_break_in_a_name_starts_no_new_log_line() -> None:
    forged = "2026-01-01T00:00:00Z [info     ] all is well"
    program = (
        "import logging; from recall_server.config.logs import configure_logs; configure_logs('info', 'console');"
        f"logging.getLogger('x').error('bundle rejected: %s', 'a\\n{forged}')"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"    {forged}" in ran.stderr
    assert not any(line.startswith(forged) for line in ran.stderr.splitlines())
