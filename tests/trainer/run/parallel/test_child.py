"""A process that a task of a cluster starts: it ends with the task, or by itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from trainer.run.parallel.child import end_with_input
end_with_input()
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.process
@pytest.mark.parametrize(("seconds", "status"), [("0", 0), ("60", 1)])
def test_a_process_ends_by_itself_or_when_its_input_ends(seconds: str, status: int) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, seconds], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        if status:
            process.stdin.close()
        assert process.wait(60) == status
