"""The marker `process`: tests that start a server, a browser or another process. `make quick` leaves them out.

A test gets the marker from its place, from a fixture that it uses, from a name such as `subprocess` in its body, or by
hand: `@pytest.mark.process`. The marker cannot be forgotten: a test without it that starts a process or listens on a
port fails.
"""

from __future__ import annotations

import multiprocessing.process
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
PLACES = (TESTS / "page", TESTS / "clients" / "test_consumer.py")  # folders and files whose tests are all marked
FIXTURES = frozenset({"address", "ray_cluster", "serve"})  # and every test that uses one of these, directly or not
NAMES = frozenset({"ProcessPoolExecutor", "multiprocessing", "socket", "subprocess"})  # and every test that uses these
EVENTS = frozenset(
    {
        "multiprocessing.Process.start",  # an event of our own: see `pytest_configure`
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "socket.bind",
        "subprocess.Popen",
    }
)


def compiler_name() -> str:
    """Return the name of the compiler that builds the project's kernels."""
    return Path(os.environ.get("CXX") or "g++").name


class ProcessGuard:
    """An audit hook that lets no process start during a test without the marker."""

    def __init__(self) -> None:
        self.test: pytest.Item | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.test is None or event not in EVENTS or self.test.get_closest_marker("process"):
            return
        if event == "subprocess.Popen" and Path(os.fspath(arguments[0])).name in ("git", "uname", compiler_name()):
            return  # any test may run these: they end at once, and Python's `platform` asks `uname`
        what = "listens on a port" if event == "socket.bind" else "starts a process"
        pytest.fail(f"{self.test.nodeid} {what}; mark it with @pytest.mark.process", pytrace=True)


GUARD = ProcessGuard()


def pytest_configure(config: pytest.Config) -> None:
    """Put the guard up. An audit hook cannot be removed, so that it stays idle (`test` is None) outside of tests."""
    config.addinivalue_line(
        "markers", "process: starts a server, a browser or another process (tests/suite/processes.py)"
    )
    start = multiprocessing.process.BaseProcess.start

    def audited_start(self: multiprocessing.process.BaseProcess) -> None:
        sys.audit("multiprocessing.Process.start", self)  # the method `spawn` raises no audit event before Python 3.14
        start(self)

    multiprocessing.process.BaseProcess.start = audited_start  # type: ignore[method-assign]
    sys.addaudithook(GUARD)


def is_known_to_start_one(item: pytest.Item) -> bool:
    """Whether the place, a fixture or the body of a test shows that it starts a process or a server."""
    if not isinstance(item, pytest.Function):
        return False
    by_place = any(item.path.is_relative_to(place) for place in PLACES)
    by_fixture = not FIXTURES.isdisjoint(item.fixturenames)
    by_body = not NAMES.isdisjoint(names_in(item.function.__code__))
    return by_place or by_fixture or by_body


def names_in(code: CodeType) -> set[str]:
    """Return the global names and attributes that a function uses, and those of the functions inside it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(names_in, inner))


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_known_to_start_one(item):
            item.add_marker("process")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    GUARD.test = item
    try:
        return (yield)
    finally:
        GUARD.test = None
