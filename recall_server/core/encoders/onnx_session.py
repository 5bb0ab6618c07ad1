"""Sessions of onnxruntime, on the CPU or with CUDA.

onnxruntime says what it was built for, not what it runs on, and falls back to the CPU without an error. So the device
asked for is compared with what the finished session reports.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
import os
import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recall_server.core.io.deadline import calls_after
from recall_server.errors import InvalidBundle, UnsupportedQuery

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
# By default onnxruntime tells its maker what runs where, and keeps an id and a database in the home folder. A version
# of it reads one of these names, when it is imported.
NO_TELEMETRY: Final = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
ERRORS_ONLY = 3  # severity of onnxruntime's own log; the provider of a session says more than its warnings
RUN_SECONDS = 60.0  # for each PICTURES_TIMED pictures
PICTURES_TIMED: Final = 64
PIXELS_AT_ONCE: Final = 2**17
MOST_AT_ONCE: Final = 64

logger = logging.getLogger(__name__)
_creating = threading.Lock()  # creating sessions concurrently races inside onnxruntime


def open_session(data: bytes, name: str, device: str, threads: int) -> Any:
    """A session on `device`, for the bytes of a file that `check_onnx` accepts. Raises InvalidBundle.

    `auto` takes CUDA where it works.
    """
    with _creating:
        return _session(data, name, device, threads)


def cpu_session(model: bytes) -> Any:
    """An onnxruntime session of this model on the CPU, with one thread; no two are created at the same time."""
    with _creating:
        return _create(_runtime(), model, CPU, 1)


def run_session(session: Any, output: str, images: NDArray[np.float32], seconds: float = RUN_SECONDS) -> NDArray[Any]:
    """The values of `output` for `images` [N, C, H, W], computed for some pictures at a time.

    Raises UnsupportedQuery after `seconds` for each PICTURES_TIMED of them. The run ends with the operator that is
    under way.
    """
    options = _runtime().RunOptions()
    limit = seconds * max(1, math.ceil(len(images) / PICTURES_TIMED))
    at_once = pictures_at_once(images.shape[2] * images.shape[3])
    try:
        with calls_after(limit, functools.partial(setattr, options, "terminate", True)):
            parts = [
                session.run([output], {"images": np.ascontiguousarray(images[start : start + at_once])}, options)[0]
                for start in range(0, max(1, len(images)), at_once)
            ]
    except Exception as error:  # onnxruntime raises classes of its own, without a common root
        if options.terminate:
            raise UnsupportedQuery(f"the network takes longer than {limit:g} seconds for these pictures") from error
        raise
    return np.concatenate(parts)


def pictures_at_once(pixels: int) -> int:
    """How many pictures of so many pixels each to compute together.

    What a layer gives for them then fits the caches, which makes an image tower a seventh faster than batches of 64
    do, and takes a tenth of the memory.
    """
    return min(MOST_AT_ONCE, max(1, PIXELS_AT_ONCE // pixels))


def _session(data: bytes, name: str, device: str, threads: int) -> Any:
    runtime = _runtime()
    wants_cuda = device == "cuda" or (device == "auto" and CUDA in runtime.get_available_providers())
    if wants_cuda:
        try:
            return _create(runtime, data, CUDA, threads)
        except Exception as error:
            if device == "cuda":
                raise InvalidBundle(f"the query encoder {name} cannot run on CUDA: {_first_line(error)}") from error
            logger.warning("the query encoder %s runs on the CPU, for CUDA fails: %s", name, _first_line(error))
    try:
        return _create(runtime, data, CPU, threads)
    except Exception as error:
        raise InvalidBundle(f"the query encoder {name} is no ONNX file that onnxruntime can run") from error


def _create(runtime: Any, data: bytes, provider: str, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the bytes look like
    if provider == CPU:
        # What the runtime keeps for the next run is the most that any run has needed, for as long as the session lives.
        options.enable_cpu_mem_arena = False
    else:  # the strict mode: an error instead of a silent session on the CPU
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = runtime.InferenceSession(data, sess_options=options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"the session runs on {session.get_providers()[0]}")
    return session


def _runtime() -> Any:
    """onnxruntime without its telemetry, imported when the first encoder is loaded.

    A server of label memories works without onnxruntime.
    """
    for name in NO_TELEMETRY:
        os.environ.setdefault(name, "1")
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise InvalidBundle("a bundle with an encoder needs onnxruntime: pip install 'memory-recall[cpu]'") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
