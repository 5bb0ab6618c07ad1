"""A Python session in a process of its own: reads blocks from stdin as lines of JSON, and answers each with one.

Run by `runner.py` as a program, so that what a page does to its interpreter ends with the page.
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
    """Run a program; what it raised, with the page's own line numbers, or nothing."""
    try:
        exec(compile("\n" * (line - 1) + source, page, "exec"), namespace)
    except Exception:
        return traceback.format_exc()
    return ""


def check(source: str, page: str, line: int, namespace: dict[str, Any]) -> str:
    """Repeat a session; what came out otherwise than it says, or nothing."""
    said: list[str] = []
    test = doctest.DocTestParser().get_doctest(source, {}, page, page, line - 1)
    test.globs = namespace
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append, clear_globs=False)
    return "".join(said)


def main() -> None:
    """Until stdin ends."""
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
