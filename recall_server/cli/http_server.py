"""The uvicorn server of `serve`: how fast it accepts connections, and how it and the process end."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn, final

import uvicorn

# asyncio accepts as many connections in one turn of the event loop as the kernel may keep waiting, and then answers all
# their requests turn by turn. Open connections would wait for all of them, so one is accepted in a turn, and the kernel
# keeps the others.
ACCEPTED_IN_A_TURN: Final = 1
KEPT_WAITING: Final = 2048  # connections; the limit of the kernel, net.core.somaxconn, may be lower


@final
class HttpServer(uvicorn.Server):
    """Calls `on_exit` when it is asked to stop, before it waits for open requests.

    The process ends after `seconds` at the latest, with the stacks of its threads on standard error: a thread inside a
    library cannot be stopped, and Python would wait for it.
    """

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None], seconds: float) -> None:
        config.backlog = ACCEPTED_IN_A_TURN
        super().__init__(config)
        self._on_exit, self._seconds = on_exit, seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with a longer line of waiting connections than asyncio accepts in a turn."""
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                with socket.socket(fileno=os.dup(listener.fileno())) as same:
                    same.listen(KEPT_WAITING)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        faulthandler.dump_traceback_later(self._seconds, exit=True)
        self._on_exit()
        super().handle_exit(sig, frame)


def end_process(status: int) -> NoReturn:
    """End this process, after what was registered with `atexit`, but without finalising the interpreter.

    A thread that computes cannot be stopped. When it returns from torch or onnxruntime to an interpreter that is being
    finalised, Python ends it inside a C++ function that must not throw, and the process aborts.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or never there
            stream.flush()
    os._exit(status)
