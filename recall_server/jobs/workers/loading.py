"""Imported by the fork server: loads what workers need, and compiles the kernels on a new machine.

That takes seconds or more, in which the fork server does not notice by itself that the server has died. An alarm
signal checks for that meanwhile; a thread would not do, since none may exist when workers are forked.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

SECONDS_BETWEEN_CHECKS = 0.2

_server = os.getppid()


def _exit_with_server(number: int, frame: FrameType | None) -> None:
    if os.getppid() != _server:
        os._exit(1)


_before = signal.signal(signal.SIGALRM, _exit_with_server)
signal.setitimer(signal.ITIMER_REAL, SECONDS_BETWEEN_CHECKS, SECONDS_BETWEEN_CHECKS)
try:
    import recall_server.jobs.workers.worker  # noqa: F401  (takes seconds)
    from recall_server.core.networks.kernels import prepare

    prepare()
finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, _before)
