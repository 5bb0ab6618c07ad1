"""Starts training processes in milliseconds, as forks of one process that has torch loaded and does nothing else.

Starting Python and importing torch takes seconds, and a server is not ready until a worker is warm. That process,
multiprocessing's fork server, loads while the server does, and its forks share its memory. It has no threads, holds no
lock and has not used CUDA, so that a fork of it is as good as a new process. A fork of the server would not be.

This module imports nothing heavy: it is what `recall-server` runs first.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

LOADED = ("recall_server.jobs.workers.loading",)
# Defaults, which the operator's environment overrides. Idle OpenMP threads sleep: by default they spin while they wait
# for each other, which on two busy cores made a training step 2 to 100 times slower than a single thread, while asleep
# they cost nothing measurable. OpenBLAS, which NumPy uses, would start threads when it is loaded.
SETTINGS = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}

_starting = threading.Lock()


def prepared() -> ForkServerContext:
    """The context that starts processes. Its fork server begins to load, and is not waited for.

    Raises OSError if no process can be started.
    """
    context = multiprocessing.get_context("forkserver")
    with _starting, _environment():
        context.set_forkserver_preload(list(LOADED))
        forkserver.ensure_running()  # starts it again if it died
    return context


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    added = {name: value for name, value in SETTINGS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
