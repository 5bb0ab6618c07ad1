"""Work in a process that can be killed: its result, its limits, and who waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from recall_server.core.io.killable import KillableProcess, LimitReached, WorkLimits
from recall_server.errors import Abandoned

pytestmark = pytest.mark.process

LIMITS = WorkLimits(processor_seconds=0.5, seconds=60, memory=2**27)


def work(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Do what the request says."""
    if request["do"] == "spin":
        while True:
            pass
    if request["do"] == "sleep":
        time.sleep(3600)
    if request["do"] == "allocate":
        return {}, bytes(2**28)
    if request["do"] == "die":
        os._exit(3)
    if request["do"] == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    return {"pid": os.getpid()}, data[::-1]


@pytest.fixture
def process() -> Iterator[KillableProcess]:
    process = KillableProcess(work, LIMITS)
    yield process
    process.kill()


def test_calls_are_answered_by_one_process(process: KillableProcess) -> None:
    first, data = process.call({"do": "reverse"}, b"abc")
    second, _ = process.call({"do": "reverse"}, b"")
    assert data == b"cba"
    assert first == second
    assert first["pid"] != os.getpid()


def test_the_process_has_a_lower_priority_than_the_server(process: KillableProcess) -> None:
    (answer, _) = process.call({"do": "reverse"}, b"")
    assert os.getpriority(os.PRIO_PROCESS, answer["pid"]) > os.getpriority(os.PRIO_PROCESS, os.getpid())


@pytest.mark.parametrize("what", ["spin", "allocate", "die"])
def test_work_beyond_the_limits_ends_and_the_next_call_has_a_new_process(
    process: KillableProcess, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before, _ = process.call({"do": "reverse"}, b"")
    with pytest.raises(LimitReached):
        process.call({"do": what}, b"")
    after, data = process.call({"do": "reverse"}, b"abc")
    assert data == b"cba"
    assert before != after


@pytest.mark.parametrize("what", ["sleep", "stop"])
def test_work_that_takes_no_processor_time_ends_by_the_clock(what: str) -> None:
    process = KillableProcess(work, WorkLimits(processor_seconds=60, seconds=0.5, memory=2**27))
    with pytest.raises(LimitReached):
        process.call({"do": what}, b"")
    process.kill()


def test_a_process_that_does_not_read_its_data_is_killed() -> None:
    process = KillableProcess(work, WorkLimits(processor_seconds=60, seconds=0.5, memory=2**27))
    pid = process.call({"do": "reverse"}, b"")[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(LimitReached):
        process.call({"do": "reverse"}, bytes(2**24))
    process.kill()


def test_work_is_killed_if_nobody_waits(process: KillableProcess) -> None:
    process.call({"do": "reverse"}, b"")
    with pytest.raises(Abandoned):
        process.call({"do": "sleep"}, b"", wanted=lambda: False)


@pytest.mark.parametrize("memory", [2**29, 2**36, 2**50])
def test_a_limit_of_the_operators_stays(memory: int) -> None:
    program = (
        "import resource\n"
        "from recall_server.core.io.killable import _limit_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))\n"
        f"_limit_memory({memory})\n"
        "print(resource.getrlimit(resource.RLIMIT_AS)[0])\n"
    )
    limited = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60).stdout)
    assert limited == 2**35 if memory > 2**35 else memory < limited < 2**35
