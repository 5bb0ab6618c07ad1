"""A trial of an encoder in a process that can be killed, before the server runs it in its own.

A session cannot be interrupted: neither its creation, which computes constant parts of the network, nor a run. A file
of a few hundred bytes can take hours or all memory for both.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np

from recall_server.core.encoders.onnx_session import open_session, run_session
from recall_server.core.io.killable import KillableProcess, LimitReached, WorkLimits
from recall_server.errors import InvalidBundle

LIMITS: Final = WorkLimits(processor_seconds=30.0, seconds=240.0, memory=2**32)
PICTURES: Final = 2

_trying = threading.Lock()  # one trial at a time bounds their memory


def try_encoder(
    model: bytes, name: str, image_shape: tuple[int, int, int] | None = None, limits: WorkLimits = LIMITS
) -> None:
    """Create a session on the CPU in another process, and encode two grey pictures of the shape that it takes.

    Raises InvalidBundle if that fails or takes more than the limits, and Unavailable if no process can be started.
    """
    with _trying:
        process = KillableProcess(_try, limits)
        try:
            answer, _ = process.call({"name": name, "image_shape": image_shape}, model)
        except LimitReached as error:
            raise InvalidBundle(f"the query encoder {name} takes too much time or memory for two pictures") from error
        finally:
            process.kill()
    if "error" in answer:
        raise InvalidBundle(answer["error"])


def _try(request: dict[str, Any], model: bytes) -> tuple[dict[str, Any], bytes]:
    """The work of the process: an error in one sentence, or none.

    An encoder whose inputs and outputs are wrong is not run: `QueryEncoder` refuses it.
    """
    name = request["name"]
    try:
        session = open_session(model, name, "cpu", 1)
    except InvalidBundle as error:
        return {"error": str(error)}, b""
    try:
        shape = _picture_shape(session, request["image_shape"])
        if shape is not None:
            run_session(session, "queries", np.full((PICTURES, *shape), 0.5, dtype=np.float32))
    except Exception:  # onnxruntime raises classes of its own, without a common root
        return {"error": f"the query encoder {name} fails on two plain grey pictures"}, b""
    return {}, b""


def _picture_shape(session: Any, asked: list[int] | None) -> list[int] | None:
    """[C, H, W] as the file declares it, with the sizes asked for where it leaves them open; None if it has none."""
    shapes = {value.name: value.shape for value in session.get_inputs()}
    found = list(shapes.get("images", []))[1:]
    if asked is not None and len(found) == len(asked):
        found = [own if isinstance(own, int) else size for own, size in zip(found, asked, strict=True)]
    return found if len(found) == 3 and all(isinstance(size, int) and size > 0 for size in found) else None
