"""Large pictures decoded in processes of their own, which have limits of time and memory and can be killed.

A decoder of a library cannot be interrupted, and a few hundred bytes can keep it busy for seconds. The time of the
processor is limited by the kernel, so a machine that is busy with other work refuses no picture.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import queue
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from recall_server.core.io.pictures import MAX_PIXELS, decode_bytes
from recall_server.errors import (
    Abandoned,
    PictureTooLarge,
    RecallError,
    Unavailable,
    UnreadablePicture,
    UnsupportedQuery,
)

PROCESSES: Final = 2
PROCESSOR_SECONDS: Final = 5.0  # for one picture
SECONDS: Final = 60.0  # for one picture, with the waiting for the processor
SECONDS_BETWEEN_LOOKS: Final = 0.1  # at whether somebody still waits for the pixels
SECONDS_TO_START: Final = 60.0
MEMORY: Final = 2**30  # bytes beyond those of the idle process
REFUSALS: Final = {kind.__name__: kind for kind in (PictureTooLarge, UnreadablePicture, UnsupportedQuery)}


@final
class DecodingProcesses:
    """Decodes `processes` pictures at a time. The processes start when they are needed. Safe for several threads."""

    def __init__(self, processes: int = PROCESSES) -> None:
        self._slots: queue.LifoQueue[_Slot] = queue.LifoQueue()
        for _ in range(processes):
            self._slots.put(_Slot())

    def decode(
        self,
        data: bytes,
        image_shape: tuple[int, int, int],
        *,
        name: str = "the picture",
        max_pixels: int = MAX_PIXELS,
        wanted: Callable[[], bool] = lambda: True,
    ) -> NDArray[np.uint8]:
        """`pictures.decode_bytes`, given up once `wanted` is false.

        Raises its errors, PictureTooLarge where the limits of time or memory are reached, Abandoned, and Unavailable
        where no process can be started.
        """
        slot = self._take(wanted)
        try:
            return slot.decode(data, image_shape, name, max_pixels, wanted)
        finally:
            self._slots.put(slot)

    def close(self) -> None:
        """End the processes. A later call of `decode` starts new ones."""
        for _ in range(self._slots.qsize()):
            slot = self._slots.get()
            slot.kill()
            self._slots.put(slot)

    def _take(self, wanted: Callable[[], bool]) -> _Slot:
        while True:
            try:
                return self._slots.get(timeout=SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                _check_wanted(wanted)


@final
class _Slot:
    """The place of one process, which is started again after it was killed."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def decode(
        self,
        data: bytes,
        image_shape: tuple[int, int, int],
        name: str,
        max_pixels: int,
        wanted: Callable[[], bool],
    ) -> NDArray[np.uint8]:
        """See `DecodingProcesses.decode`."""
        connection = self._started(wanted)
        request = {"shape": image_shape, "name": name, "max_pixels": max_pixels}
        try:
            connection.send_bytes(json.dumps(request).encode())
            connection.send_bytes(data)
            answer = json.loads(self._receive(connection, wanted))
            if "error" in answer:
                raise _refusal(answer)
            pixels = np.frombuffer(self._receive(connection, wanted), dtype=np.uint8)
        except (EOFError, OSError, TimeoutError) as error:
            self.kill()
            raise PictureTooLarge(
                f"{name} takes too much time or memory to decode; save it again at a smaller size", parameter=name
            ) from error
        except Abandoned:
            self.kill()
            raise
        return pixels.reshape(image_shape)

    def kill(self) -> None:
        """End the process, if there is one."""
        if self._process is not None and self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.join(SECONDS_TO_START)
        self._process = self._connection = None

    def _started(self, wanted: Callable[[], bool]) -> Connection:
        if self._process is not None and self._process.is_alive() and self._connection is not None:
            return self._connection
        self.kill()
        # A fork of a server with threads could inherit a lock that nobody releases.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        with theirs:  # closed here, or the end of the process would not close the pipe
            process = context.Process(target=_serve, args=(theirs,), name="decoding", daemon=True)
            process.start()
        self._process, self._connection = process, ours
        try:
            self._receive(ours, wanted, SECONDS_TO_START)  # it is ready
        except Abandoned:
            self.kill()
            raise
        except (EOFError, OSError, TimeoutError) as error:
            self.kill()
            raise Unavailable("no process could be started to decode large pictures", retry_after=10) from error
        return ours

    @staticmethod
    def _receive(connection: Connection, wanted: Callable[[], bool], seconds: float | None = None) -> bytes:
        limit = time.monotonic() + (SECONDS if seconds is None else seconds)
        while not connection.poll(SECONDS_BETWEEN_LOOKS):
            _check_wanted(wanted)
            if time.monotonic() > limit:
                raise TimeoutError
        return connection.recv_bytes()


def _check_wanted(wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise Abandoned("nobody waits for this picture any more")


def _refusal(answer: dict[str, Any]) -> RecallError:
    return REFUSALS[answer["error"]](answer["detail"], parameter=answer["parameter"])


def _serve(connection: Connection) -> None:
    """The whole life of a process: it ends when the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides when to stop
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the end of the processor's time ends the process
    _limit_memory()
    with contextlib.suppress(EOFError, OSError):
        connection.send_bytes(b"ready")
        while True:
            request = json.loads(connection.recv_bytes())
            _answer(connection, connection.recv_bytes(), **request)


def _answer(connection: Connection, data: bytes, *, shape: list[int], name: str, max_pixels: int) -> None:
    channels, height, width = shape
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
    try:
        pixels = decode_bytes(data, (channels, height, width), name=name, max_pixels=max_pixels)
    except (PictureTooLarge, UnreadablePicture, UnsupportedQuery) as error:
        refusal = {"error": type(error).__name__, "detail": str(error), "parameter": error.parameter}
        connection.send_bytes(json.dumps(refusal).encode())
    else:
        connection.send_bytes(b"{}")
        connection.send_bytes(pixels.tobytes())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory() -> None:
    """Let the process take MEMORY more than it has, where the system tells how much that is."""
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
    except OSError:
        return
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
