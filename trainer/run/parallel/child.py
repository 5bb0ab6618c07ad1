"""A program that a task runs in a process of its own. Nothing heavy is imported, since the task only waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

SECONDS_BETWEEN_LOOKS = 0.1  # KeyboardInterrupt does not end a longer wait


@final
@dataclass(frozen=True)
class Child:
    """Python with a program (`-m NAME` or `-c TEXT`), the folder of an item and options, and a log in that folder.

    With the option `--tied`, the program has to call `end_with_input`, so that it ends with the task and its node.
    """

    program: Sequence[str]
    options: Sequence[str]
    log: str
    working_folder: str  # if it is on this node

    def run(self, place: str) -> str:
        """Run to the end. Return "" or why it failed; KeyboardInterrupt is passed on, and is no failure."""
        with (Path(place) / self.log).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *self.program, place, *self.options, "--tied"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.working_folder if os.path.isdir(self.working_folder) else None,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    time.sleep(SECONDS_BETWEEN_LOOKS)
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                process.wait()
                return ""
        return fault(process.returncode, Path(place) / self.log)


def end_with_input() -> None:
    """From now on, end this process at once when its standard input ends."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):  # sys.stdin would hold a lock, without which Python cannot shut down
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def fault(status: int, log: Path) -> str:
    """Why the process of an item failed; "" if it did not."""
    return f"its process ended with status {status}; see {log.parent.name}/{log.name}" if status else ""
