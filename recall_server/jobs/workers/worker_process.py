"""The server's end of one training process: its pipe, the job that it has, and the time that it may take."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import final

from recall_server.core.io.killable import killed_after
from recall_server.jobs.workers.backend import Assignment
from recall_server.jobs.workers.processes import prepared
from recall_server.jobs.workers.worker import MESSAGES, Lost, Message, Ready, Succeeded

SECONDS_TO_START = 300.0
SECONDS_TO_STOP = 10.0
SECONDS_TO_TRANSFER = 30.0  # for a task or a classifier to go through the pipe

Main = Callable[[Connection], None]  # the main function of a process: a function of a module, or a partial of one


@final
@dataclass(eq=False)
class WorkerProcess:
    """A running process. `device` is None until it is warm, `job` while it has none.

    `deadline`, on the monotonic clock, is when it has to be warm or has to have finished its job. `reason` is why it
    ends, if it has said so.
    """

    process: BaseProcess
    connection: Connection
    device: str | None = None
    node: str | None = None
    job: Assignment | None = None
    deadline: float | None = None
    reason: str = ""

    @classmethod
    def start(cls, name: str, main: Main) -> WorkerProcess:
        """A new process that warms itself up. Raises OSError if none can be started."""
        with contextlib.ExitStack() as unused:
            context = prepared()
            ours, theirs = context.Pipe()
            unused.enter_context(ours)
            with theirs:  # an open copy here would keep the pipe open after the process has ended
                process = context.Process(target=main, args=(theirs,), name=name, daemon=True)
                process.start()
            unused.pop_all()
        return cls(process, ours, deadline=time.monotonic() + SECONDS_TO_START)

    def became_warm(self, ready: Ready) -> None:
        self.device, self.node, self.deadline = ready.device, ready.node, None

    def give(self, job: Assignment) -> None:
        """Hand it a job. Raises OSError if the process is gone or does not take the task in time."""
        # The task may be large, and is not needed here any more.
        self.job, self.deadline = replace(job, task=b""), time.monotonic() + job.seconds
        with killed_after(SECONDS_TO_TRANSFER, self.process):
            self.connection.send_bytes(job.task)

    def receive(self) -> tuple[Message, bytes]:
        """The next message and, if it is `Succeeded`, the file of the classifier.

        Where `Lost` comes in place of the file, it is that message. Raises EOFError or OSError if the process is gone
        or does not send the file in time, and ValidationError for anything else.
        """
        message = MESSAGES.validate_json(self.connection.recv_bytes())
        if not isinstance(message, Succeeded):
            return message, b""
        with killed_after(SECONDS_TO_TRANSFER, self.process):
            file = self.connection.recv_bytes()
        if hashlib.sha256(file).hexdigest() != message.sha256:
            return Lost.model_validate_json(file), b""
        return message, file

    def end_job(self) -> None:
        self.job = self.deadline = None

    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def kill(self) -> None:
        """End the process, and close the pipe."""
        self.connection.close()
        self.process.kill()
        self.process.join(SECONDS_TO_STOP)
