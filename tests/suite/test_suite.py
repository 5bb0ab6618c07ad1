"""The plugins of the suite: the guard against unmarked processes, skipped tests under CI, and the units of work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suite.scheduling import SHARED, unit_of

ROOT = Path(__file__).parents[2]
CONFTEST = 'pytest_plugins = ("tests.suite.processes", "tests.suite.skips")'
TESTS = """
import multiprocessing, os, socket, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
import pytest
from tests.suite.skips import NO_CUDA

def start():
    assert subprocess.run([sys.executable, "-c", ""]).returncode == 0

def listen():
    socket.create_server(("127.0.0.1", 0)).close()

@pytest.mark.process
def test_marked(): start()
@pytest.mark.process
def test_marked_listens(): listen()
def test_calls_subprocess_itself(): assert subprocess.run(["true"]).returncode == 0
def test_runs_git(): git()
def git(): assert subprocess.run(["git", "--version"]).returncode == 0

def test_unmarked_subprocess(): start()
def spawn(): multiprocessing.get_context("spawn").Process(target=start).start()
def test_unmarked_spawn(): spawn()
def test_unmarked_thread():
    with ThreadPoolExecutor() as pool: pool.submit(start).result()
def test_unmarked_listens(): listen()
def test_unmarked_fork():
    if os.fork() == 0: os._exit(0)

@pytest.mark.skip(reason="no harp: install one")
def test_skipped(): pass
@pytest.mark.skip(reason=NO_CUDA)
def test_skipped_without_cuda(): pass
@pytest.mark.xfail(strict=True)
def test_expected_to_fail(): assert False
"""
MODULE = 'import pytest\npytest.skip("no choir: hire one", allow_module_level=True)'


def outcomes(folder: Path, *arguments: str, ci: str) -> tuple[dict[str, str], str]:
    """Run TESTS and MODULE. Returns the outcome of each by name, and all that the run printed."""
    for name, text in (("conftest.py", CONFTEST), ("test_it.py", TESTS), ("test_module.py", MODULE)):
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", f"--rootdir={folder}", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run([*command, str(folder)], cwd=folder, env=environment, capture_output=True, text=True)
    found = re.findall(r"^test_it\.py::test_(\w+) ([A-Z]+)", ran.stdout, flags=re.MULTILINE)
    return {name: outcome for name, outcome in found}, ran.stdout


@pytest.mark.process
def test_a_test_without_the_marker_may_start_no_process_and_a_skipped_one_is_listed(tmp_path: Path) -> None:
    found, said = outcomes(tmp_path, ci="")
    unmarked = {name for name in found if name.startswith("unmarked")}
    assert len(unmarked) == 5
    assert {name for name, outcome in found.items() if outcome == "FAILED"} == unmarked, said
    assert "test_unmarked_spawn starts a process; mark it with @pytest.mark.process" in said
    assert "test_unmarked_listens listens on a port; mark it with @pytest.mark.process" in said
    assert "1 test: no harp: install one" in said
    assert "1 test: no choir: hire one" in said


@pytest.mark.process
def test_under_ci_only_a_test_that_needs_cuda_may_be_skipped(tmp_path: Path) -> None:
    found, said = outcomes(
        tmp_path, "-k", "skipped or expected or module", "--continue-on-collection-errors", ci="true"
    )
    assert found == {"skipped": "ERROR", "skipped_without_cuda": "SKIPPED", "expected_to_fail": "XFAIL"}, said
    assert "test_skipped may not be skipped under CI: no harp: install one" in said
    assert "test_module.py may not be skipped under CI: no choir: hire one" in said


@pytest.mark.process
def test_quick_tests_are_those_without_the_marker(tmp_path: Path) -> None:
    found, _ = outcomes(tmp_path, "-m", "not process", "-k", "marked or calls", ci="")
    assert not any(name.startswith(("marked", "calls")) for name in found)


def test_a_unit_of_work_is_a_file_or_those_that_share_a_server() -> None:
    assert unit_of("tests/trainer/run/test_build.py::test_x[a::b]") == "tests/trainer/run/test_build.py"
    assert unit_of("tests/page/test_page_names.py::test_x") == unit_of("tests/page/test_page_ways.py::test_y")
    assert [place for places in SHARED.values() for place in places if not (ROOT / place).exists()] == []
