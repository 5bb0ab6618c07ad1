"""What the fork server loads, and compiles on a new machine.

It would notice only afterwards, seconds or more later, that the server has died.
So an alarm looks for it meanwhile; a thread that waits must not be there when workers are forked.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

SECONDS = 0.2  # between two looks

_server = os.getppid()


def _look(number: int, frame: FrameType | None) -> None:
    if os.getppid() != _server:
        os._exit(1)


_before = signal.signal(signal.SIGALRM, _look)
signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
try:
    import recall_server.jobs.workers.worker  # noqa: F401  (this is what takes long)
    from recall_server.core.networks.kernels import prepare

    prepare()
finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, _before)
