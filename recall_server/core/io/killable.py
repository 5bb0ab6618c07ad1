"""A process with limits of time and memory, for work on untrusted files.

A library function cannot be interrupted, and a few hundred bytes can keep it busy for hours. The kernel limits
processor time, so that a busy machine fails no file.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import resource
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, final

from recall_server.core.io.deadline import calls_after
from recall_server.core.scheduling import let_server_first
from recall_server.errors import Abandoned, Unavailable

SECONDS_BETWEEN_LOOKS: Final = 0.1  # between checks whether somebody still waits for the answer
SECONDS_TO_START: Final = 120.0
SECONDS_TO_STOP: Final = 10.0
NO_PROCESS: Final = "no process could be started for work on files of others"

Work = Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]
Wanted = Callable[[], bool]


class LimitReached(Exception):
    """The process took too much time or memory and was killed."""


@final
@dataclass(frozen=True)
class WorkLimits:
    """Limits of one call: seconds of processor time, seconds of the clock, and bytes beyond those of the idle process.

    The clock also runs while the process waits for a processor, so its limit should be many times that of processor
    time.
    """

    processor_seconds: float
    seconds: float
    memory: int


def always() -> bool:
    """The `wanted` of a call that is never abandoned."""
    return True


@final
class KillableProcess:
    """Runs `work` in another process, one call at a time. The process starts with the first call and after a kill.

    `work` is a module-level function from a request of JSON values and bytes to the same. The process imports its
    module and what that imports. Concurrent calls from several threads are an error.
    """

    def __init__(self, work: Work, limits: WorkLimits) -> None:
        self._work, self._limits = work, limits
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def call(self, request: dict[str, Any], data: bytes, wanted: Wanted = always) -> tuple[dict[str, Any], bytes]:
        """The result of `work`; the call is abandoned once `wanted` returns False.

        Raises LimitReached (also if the process ended for another reason), Abandoned, and Unavailable if no process can
        be started.
        """
        process, connection = self._started(wanted)
        try:
            with killed_after(self._limits.seconds, process):
                connection.send_bytes(json.dumps(request).encode())
                connection.send_bytes(data)
                answer = json.loads(_receive(connection, wanted))
                return answer, _receive(connection, wanted)
        except (EOFError, OSError) as error:
            self.kill()
            raise LimitReached from error
        except Abandoned:
            self.kill()
            raise

    def kill(self) -> None:
        """End the process if there is one."""
        if self._process is not None and self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.join(SECONDS_TO_STOP)
        self._process = self._connection = None

    def _started(self, wanted: Wanted) -> tuple[BaseProcess, Connection]:
        if self._process is not None and self._process.is_alive() and self._connection is not None:
            return self._process, self._connection
        self.kill()
        # A fork of a server with threads could inherit a locked lock.
        context = multiprocessing.get_context("spawn")
        try:
            ours, theirs = context.Pipe()
            with theirs:  # closed here, or the pipe would stay open when the process ends
                process = context.Process(
                    target=_serve, args=(theirs, self._work, self._limits), name="killable", daemon=True
                )
                process.start()
        except OSError as error:  # no file handle, no memory, or no more processes
            raise Unavailable(f"{NO_PROCESS} ({error.strerror})", retry_after=10) from error
        self._process, self._connection = process, ours
        try:
            with killed_after(SECONDS_TO_START, process):
                _receive(ours, wanted)  # it is ready
        except Abandoned:
            self.kill()
            raise
        except (EOFError, OSError) as error:
            self.kill()
            raise Unavailable(NO_PROCESS, retry_after=10) from error
        return process, ours


def killed_after(seconds: float, process: BaseProcess) -> AbstractContextManager[None]:
    """Kill the process if the body takes longer. Its end of a pipe then closes, which ends every transfer.

    A stopped process neither reads nor writes, and the calls of a pipe have no time limit of their own.
    """
    return calls_after(seconds, process.kill)


def check_wanted(wanted: Wanted) -> None:
    """Raise Abandoned if `wanted` returns False."""
    if not wanted():
        raise Abandoned("nobody waits for this any more")


def _receive(connection: Connection, wanted: Wanted) -> bytes:
    while not connection.poll(SECONDS_BETWEEN_LOOKS):
        check_wanted(wanted)
    return connection.recv_bytes()


def _serve(connection: Connection, work: Work, limits: WorkLimits) -> None:
    """The main function of the process, which ends when the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides when to stop
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # exceeding the limit of processor time ends the process
    let_server_first()
    _limit_memory(limits.memory)
    with contextlib.suppress(EOFError, OSError):
        connection.send_bytes(b"ready")
        while True:
            request, data = json.loads(connection.recv_bytes()), connection.recv_bytes()
            signal.setitimer(signal.ITIMER_PROF, limits.processor_seconds)
            answer, result = work(request, data)
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send_bytes(json.dumps(answer).encode())
            connection.send_bytes(result)


def _limit_memory(memory: int) -> None:
    """Limit the process to this many bytes more than it has now, where the system tells how many these are."""
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
    except OSError:
        return
    limit, (_, hard) = pages * resource.getpagesize() + memory, resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit < hard:  # a limit of the operator's cannot be raised
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
