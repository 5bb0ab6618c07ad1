"""New processes in milliseconds: made by one process that has torch loaded, and does nothing but make others.

Starting Python and importing torch takes seconds, and a server is not ready before it has a warm worker. That process
(multiprocessing's fork server) loads while the server itself does, and its copies share its memory. It has no threads,
has taken no lock and has not touched CUDA, so a fork of it is as good as a new process, which a fork of the server
would not be.
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
# Idle OpenMP threads sleep, unless the operator has chosen otherwise. By default they spin while they wait for each
# other: on two cores that something else keeps busy, that made a step of training 2 to 100 times slower than a single
# thread; asleep, they cost nothing worth measuring. OpenBLAS (NumPy's) would start threads when it is loaded.
SETTINGS = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}

_starting = threading.Lock()


def prepared() -> ForkServerContext:
    """The context to make processes in; it begins to load, if it has not, and is not waited for.

    Raises OSError where no process can be started.
    """
    context = multiprocessing.get_context("forkserver")
    with _starting, _environment():
        context.set_forkserver_preload(list(LOADED))
        forkserver.ensure_running()  # again, if it died
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
