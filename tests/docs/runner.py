"""Runs the blocks of one page in order, in a folder of its own, against a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Self

import yaml

from tests.docs.pages import ROOT, Block, blocks, name_of
from trainer.cli.memories.next_steps import USUAL_PORT, free_port

WRITTEN_URL = "http://127.0.0.1:8000"
WAIT, PATIENT_WAIT = "wait=60", "wait=300"  # as the pages say, and as the suite waits on a busy machine
SECONDS = 320  # time limit of a block
ID = re.compile(r'^\{\s*"id"\s*:\s*"([^"]+)"', re.MULTILINE)  # of a record, not of one in a list
PLACE_OF_ID = re.compile(r"(?<=/classifier/)ID\b")
READ = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
SHOWN = frozenset({"text", "ini", "nginx"})  # `ini` is checked by test_habits.py; the others are only shown


class SnippetFailed(AssertionError):
    """A block did not do what its page says."""


def environment() -> dict[str, str]:
    """What the programs of every page find in their environment."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("RECALL_")}
    return settings | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{settings['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients/python")]),
        "COLUMNS": "120",
        "TERM": "dumb",
    }


class Page:
    """Runs the blocks of one page, which share a folder, an interpreter and the last identifier. A context manager."""

    def __init__(self, name: str, folder: Path, url: str) -> None:
        self._name, self._folder, self._url = name, folder, url
        self._id = "ID"
        self._python: subprocess.Popen[str] | None = None
        settings = environment()
        self._environment = settings | {
            "PATH": f"{folder / '.venv/bin'}{os.pathsep}{settings['PATH']}",
            "RECALL_SERVER": url,
            **{f"XDG_{kind}_HOME": str(folder / f".{kind.lower()}") for kind in ("CONFIG", "DATA", "STATE")},
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._python is not None:
            self._python.communicate(timeout=SECONDS)  # it ends when its input ends

    def run(self, block: Block) -> None:
        """Run or check a block as its language demands. Raises SnippetFailed with the place and the reason."""
        content = block.content.replace(WRITTEN_URL, self._url).replace(WAIT, PATIENT_WAIT)
        if block.language in READ:
            self._read(block)
        elif block.language == "shell":
            self._shell(block, content)
        elif block.language == "console":
            self._console(block, content)
        elif block.language in ("python", "pycon"):
            self._interpret(block, content)
        elif block.language not in SHOWN:
            raise self._failed(block, f"the suite knows no language {block.language!r}")

    def _failed(self, block: Block, what: str) -> SnippetFailed:
        return SnippetFailed(f"{self._name}:{block.line}: {what}\n\n{block.content}")

    def _read(self, block: Block) -> None:
        try:
            READ[block.language](block.content)
        except (ValueError, yaml.YAMLError) as error:
            raise self._failed(block, f"this is no {block.language}: {error}") from error

    def _bash(self, program: str) -> subprocess.CompletedProcess[str]:
        program = PLACE_OF_ID.sub(self._id, program)
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", program],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if found := ID.findall(ran.stdout):
            self._id = found[-1]
        return ran

    def _shell(self, block: Block, program: str) -> None:
        ran = self._bash(program)
        if ran.returncode != 0:
            raise self._failed(block, f"ended with status {ran.returncode} and said\n{ran.stdout}")

    def _console(self, block: Block, session: str) -> None:
        steps = commands(session)
        if not steps:
            raise self._failed(block, "a console block needs a line that begins with '$ '")
        shows_output = any(expected for _, expected in steps)
        for command, expected in steps:
            ran = self._bash(command)
            if shows_output and not agrees(expected, self._as_written(ran.stdout)):
                raise self._failed(block, f"{command!r} said\n{ran.stdout}")
            if not expected and ran.returncode != 0:
                raise self._failed(block, f"{command!r} ended with status {ran.returncode} and said\n{ran.stdout}")

    def _as_written(self, output: str) -> str:
        """What a command prints where nothing listens on the usual port: another free port is printed otherwise."""
        port = free_port()
        output = output.replace(f"http://127.0.0.1:{port}", self._url).replace(WRITTEN_URL, self._url)
        return output.replace(f"--port {port}", f"--port {USUAL_PORT}")

    def _interpret(self, block: Block, source: str) -> None:
        if self._python is None:
            program = Path(__file__).with_name("interpreter.py")
            self._python = subprocess.Popen(
                [sys.executable, str(program)],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        session = block.language == "pycon"
        request = {"session": session, "source": source, "page": self._name, "line": block.line}
        print(json.dumps(request), file=self._python.stdin, flush=True)
        answer = self._python.stdout.readline()
        if not answer:
            raise self._failed(block, "the interpreter ended")
        if failure := json.loads(answer)["failure"]:
            raise self._failed(block, failure)


def run_page(page: Path, folder: Path, url: str) -> None:
    """Run every block of a page that is to be executed, in order. Raises SnippetFailed."""
    with Page(name_of(page), folder, url) as running:
        for block in blocks(page):
            if block.not_executed is None:
                running.run(block)


def needs_server(page: Path) -> bool:
    """Return whether a block that is executed talks to the server: by its address, or with the command `recall`."""
    asked = [block.content for block in blocks(page) if block.not_executed is None and block.language not in SHOWN]
    return any(WRITTEN_URL in content or re.search(r"^\$ recall ", content, re.MULTILINE) for content in asked)


def commands(session: str) -> list[tuple[str, str]]:
    """Split a console session into pairs of command and expected output; `> ` continues a command."""
    steps: list[tuple[str, str]] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], ""))
        elif line.startswith("> ") and steps and not steps[-1][1]:
            steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", "")
        elif steps:
            steps[-1] = (steps[-1][0], f"{steps[-1][1]}{line}\n")
    return steps


def agrees(expected: str, output: str) -> bool:
    """Return whether the output is the expected one. `...` matches anything, and white space is ignored."""
    pieces = ["".join(piece.split()) for piece in expected.split("...")]
    return re.fullmatch(".*".join(map(re.escape, pieces)), "".join(output.split()), re.DOTALL) is not None
