"""A Python session in a process of its own: reads blocks from stdin as lines of JSON, and answers each with a line.

`runner.py` starts one for each page, so that pages cannot affect each other.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import sys
import traceback
from typing import Any

import __main__

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def execute(source: str, page: str, line: int, namespace: dict[str, Any]) -> str:
    """Run a program. Returns the traceback, with the line numbers of the page, or an empty string."""
    try:
        exec(compile("\n" * (line - 1) + source, page, "exec"), namespace)
    except Exception:
        return traceback.format_exc()
    return ""


def check(source: str, page: str, line: int, namespace: dict[str, Any]) -> str:
    """Run a session. Returns the differences between its output and the page, or an empty string."""
    said: list[str] = []
    test = doctest.DocTestParser().get_doctest(source, {}, page, page, line - 1)
    test.globs = namespace
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append, clear_globs=False)
    return "".join(said)


def main() -> None:
    """Answer requests until stdin ends."""
    namespace = vars(__main__)
    answers = sys.stdout
    for request in sys.stdin:
        block = json.loads(request)
        work = check if block.pop("session") else execute
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            failure = work(**block, namespace=namespace)
        print(json.dumps({"failure": failure, "output": output.getvalue()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
