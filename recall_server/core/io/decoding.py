"""Decodes large pictures in processes with limits of time and memory."""

from __future__ import annotations

import queue
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from recall_server.core.io.killable import (
    SECONDS_BETWEEN_LOOKS,
    KillableProcess,
    LimitReached,
    Wanted,
    WorkLimits,
    always,
    check_wanted,
)
from recall_server.core.io.pictures import MAX_PIXELS, decode_bytes
from recall_server.errors import PictureTooLarge, UnreadablePicture, UnsupportedQuery

PROCESSES: Final = 2
LIMITS: Final = WorkLimits(processor_seconds=5.0, seconds=60.0, memory=2**30)  # for one picture
REFUSALS: Final = {kind.__name__: kind for kind in (PictureTooLarge, UnreadablePicture, UnsupportedQuery)}


@final
class DecodingProcesses:
    """Decodes up to `processes` pictures at a time. Processes start on demand. Safe for several threads."""

    def __init__(self, processes: int = PROCESSES, limits: WorkLimits = LIMITS) -> None:
        self._idle: queue.LifoQueue[KillableProcess] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(KillableProcess(_decode, limits))

    def decode(
        self,
        data: bytes,
        image_shape: tuple[int, int, int],
        *,
        name: str = "the picture",
        max_pixels: int = MAX_PIXELS,
        wanted: Wanted = always,
    ) -> NDArray[np.uint8]:
        """Like `pictures.decode_bytes`; abandoned once `wanted` returns False.

        Raises its errors, PictureTooLarge if a limit of time or memory is reached, Abandoned, and Unavailable if no
        process can be started.
        """
        process = self._take(wanted)
        try:
            answer, pixels = process.call({"shape": image_shape, "name": name, "max_pixels": max_pixels}, data, wanted)
        except LimitReached as error:
            raise PictureTooLarge(
                f"{name} takes too much time or memory to decode; save it again at a smaller size", parameter=name
            ) from error
        finally:
            self._idle.put(process)
        if "error" in answer:
            raise REFUSALS[answer["error"]](answer["detail"], parameter=answer["parameter"])
        return np.frombuffer(pixels, dtype=np.uint8).reshape(image_shape)

    def close(self) -> None:
        """End the processes. A later call of `decode` starts new ones."""
        for _ in range(self._idle.qsize()):
            process = self._idle.get()
            process.kill()
            self._idle.put(process)

    def _take(self, wanted: Wanted) -> KillableProcess:
        while True:
            try:
                return self._idle.get(timeout=SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                check_wanted(wanted)


def _decode(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """The work of a process: the pixels, or the error of `decode_bytes`."""
    channels, height, width = request["shape"]
    shape = (channels, height, width)
    try:
        pixels = decode_bytes(data, shape, name=request["name"], max_pixels=request["max_pixels"])
    except (PictureTooLarge, UnreadablePicture, UnsupportedQuery) as error:
        return {"error": type(error).__name__, "detail": str(error), "parameter": error.parameter}, b""
    return {}, pixels.tobytes()
